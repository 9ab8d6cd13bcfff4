"""From measurements to predicted step times, and to a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lgreco import step_time
from lgreco.advise.levels import LevelTiming

WORTH_IT = 1.05  # a predicted gain below this is not worth a change
_AS_GOOD = 1.05  # levels this close to the fastest are as good; the one that loses least wins
PLAIN = "DDP"


@dataclass(frozen=True)
class NetworkTiming:
    """What `step_time.wire_seconds` takes.

    Attributes:
        bandwidth: bytes per second that a rank sends while it receives as many.
        latency: seconds of a collective of hardly any bytes.
        measured: not given by the user.
    """

    bandwidth: float
    latency: float
    measured: bool = True


@dataclass(frozen=True)
class Measurements:
    """What a probe saw. Times in seconds a step, medians over steps, of the slowest rank.

    Attributes:
        ranks: in the probe.
        layers, gradient_bytes, buckets: of the model, as DDP sends it.
        compute_s: without communication.
        ddp_s: as it is.
        window_s, early: what could hide communication; see `lgreco.step_time`.
        network: between the ranks of the probe.
        levels: the candidates.
        ranks_of_node: that compression sums before it averages over nodes.
        node_s: of that sum, and of spreading the averages.
        copy_s: of copying all gradients from the device to the host and back.
    """

    ranks: int
    layers: int
    gradient_bytes: int
    buckets: int
    compute_s: float
    ddp_s: float
    window_s: float
    early: float
    network: NetworkTiming
    levels: list[LevelTiming]
    ranks_of_node: int = 1
    node_s: float = 0.0
    copy_s: float = 0.0


@dataclass(frozen=True)
class Prediction:
    """A step at one level, or of plain DDP; seconds."""

    level: str
    payload_bytes: float
    lost: float
    codec_s: float
    staging_s: float
    wire_s: float
    exposed_s: float
    step_s: float
    speedup: float


@dataclass(frozen=True)
class Advice:
    """What to do, and why.

    Attributes:
        compress: whether any level is worth it.
        level: the best one, also when it is not worth it.
        speedup: of that level against plain DDP, on the network asked for.
        measured: by the probe.
        network, ranks: that the predictions are for.
        overlap: share of what the backward pass could hide that it did hide.
        ddp_predicted_s: DDP's step from compute and the probe's network alone, with all hidden that
            can be; beside `measured.ddp_s` it says how far to trust the predictions.
        predictions: plain DDP first.
    """

    compress: bool
    level: str
    speedup: float
    measured: Measurements
    network: NetworkTiming
    ranks: int
    overlap: float
    ddp_predicted_s: float
    predictions: list[Prediction]

    @property
    def off(self) -> float:
        """By how much the prediction of DDP's step missed, as a share of the measured one."""
        return abs(self.ddp_predicted_s - self.measured.ddp_s) / self.measured.ddp_s

    @property
    def verdict(self) -> str:
        if self.compress:
            return f"compress with {self.level}, expected x{self.speedup:.2f}"
        return "don't compress"

    def to_dict(self) -> dict[str, object]:
        return {"verdict": self.verdict, "off": self.off, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Advice:
        """The inverse of `to_dict`."""
        measured = dict(values["measured"])
        measured["network"] = NetworkTiming(**measured["network"])
        measured["levels"] = [LevelTiming(**level) for level in measured["levels"]]
        rest = {k: v for k, v in values.items() if k not in ("verdict", "off")}
        return cls(
            **rest
            | {
                "measured": Measurements(**measured),
                "network": NetworkTiming(**values["network"]),
                "predictions": [Prediction(**p) for p in values["predictions"]],
            }
        )


def advice_from(
    measured: Measurements, network: NetworkTiming | None = None, ranks: int | None = None
) -> Advice:
    """For the probe's network and ranks, or for others."""
    asked = network or measured.network
    count = ranks or measured.ranks
    here = _ddp_wire(measured, measured.network, measured.ranks)
    overlap = step_time.measured_overlap(
        measured.ddp_s - measured.compute_s, here, early=measured.early, window=measured.window_s
    )
    plain = _predict_ddp(measured, asked, count, overlap)
    compressed = [
        _predict(measured, timing, asked, count, overlap, plain.step_s)
        for timing in measured.levels
    ]
    best = _best(compressed)
    return Advice(
        compress=best.speedup >= WORTH_IT,
        level=best.level,
        speedup=best.speedup,
        measured=measured,
        network=asked,
        ranks=count,
        overlap=overlap,
        ddp_predicted_s=step_time.step_seconds(
            measured.compute_s, 0.0, here, **_hiding(measured, overlap=1)
        ),
        predictions=[plain, *compressed],
    )


def _best(compressed: list[Prediction]) -> Prediction:
    fastest = min(compressed, key=lambda p: p.step_s)
    if fastest.speedup < WORTH_IT:
        return fastest
    as_good = [
        p for p in compressed if p.step_s <= _AS_GOOD * fastest.step_s and p.speedup >= WORTH_IT
    ]
    return min(as_good, key=lambda p: p.lost)


def _ddp_wire(measured: Measurements, network: NetworkTiming, ranks: int) -> float:
    collectives = step_time.collectives_of_ddp(measured.buckets)
    return step_time.wire_seconds(
        measured.gradient_bytes, collectives, ranks, network.bandwidth, network.latency
    )


def _hiding(measured: Measurements, overlap: float) -> dict[str, float]:
    return {"early": measured.early, "window": measured.window_s, "overlap": overlap}


def _predict_ddp(
    measured: Measurements, network: NetworkTiming, ranks: int, overlap: float
) -> Prediction:
    wire = _ddp_wire(measured, network, ranks)
    hiding = _hiding(measured, overlap)
    return Prediction(
        level=PLAIN,
        payload_bytes=measured.gradient_bytes,
        lost=0.0,
        codec_s=0.0,
        staging_s=0.0,
        wire_s=wire,
        exposed_s=step_time.exposed_seconds(wire, **hiding),
        step_s=step_time.step_seconds(measured.compute_s, 0.0, wire, **hiding),
        speedup=1.0,
    )


def _predict(
    measured: Measurements,
    timing: LevelTiming,
    network: NetworkTiming,
    ranks: int,
    overlap: float,
    plain_s: float,
) -> Prediction:
    # Each rank of a node averages its share of the layers with those of equal place in other nodes.
    in_node = measured.ranks_of_node
    shares = in_node if ranks > in_node and ranks % in_node == 0 else 1
    averaging = ranks // shares
    collectives = step_time.collectives_of(timing.level, measured.buckets, averaging)
    wire = step_time.wire_seconds(
        timing.payload_bytes / shares, collectives, averaging, network.bandwidth, network.latency
    )
    codec = step_time.codec_seconds(timing.level, timing.encode_s, timing.decode_s, averaging)
    codec /= shares
    staging = measured.copy_s / shares + (measured.node_s if shares > 1 else 0.0)
    hiding = _hiding(measured, overlap)
    step = staging + step_time.step_seconds(measured.compute_s, codec, wire, **hiding)
    return Prediction(
        level=timing.level,
        payload_bytes=timing.payload_bytes,
        lost=timing.lost,
        codec_s=codec,
        staging_s=staging,
        wire_s=wire,
        exposed_s=step_time.exposed_seconds(wire, **hiding),
        step_s=step,
        speedup=plain_s / step,
    )
