"""Tables and targets of the benchmark of whole steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rich.table import Table

from benchmarks.contenders import FP16, FP32, LGRECO_POWERSGD, LGRECO_TIME

LARGEST_MISS = 0.15


@dataclass
class StepTime:
    """Of one contender; seconds and bytes a step, of rank 0. None where a contender does not tell.

    Attributes:
        compute, seconds: of every round, a step without communication and the contender's.
        encode_s, decode_s: of all threads of this rank.
        wait_s: that its lanes spent in collectives.
        wire_s: what the bytes take at the rate that Gloo's collectives get; computed.
        predicted_s: by lgreco.step_time, from the network, window_s, early and overlap.
        levels: how many layers have which level.
    """

    link: str
    model: str
    contender: str
    compute: list[float]
    seconds: list[float]
    encode_s: float | None
    decode_s: float | None
    wait_s: float | None
    sent_bytes: float | None
    wire_s: float | None
    predicted_s: float | None
    window_s: float
    early: float
    overlap: float
    reduce_bandwidth: float
    bandwidth: float
    latency: float
    levels: dict[str, int]

    @property
    def step(self) -> float:
        return median(self.seconds)

    @property
    def exposed(self) -> float:
        """Communication and codec that the step waits for, in the same rounds as compute."""
        return median(s - c for s, c in zip(self.seconds, self.compute, strict=True))

    @property
    def miss(self) -> float | None:
        """Of the prediction, as a share of the measured step."""
        return None if self.predicted_s is None else self.predicted_s / self.step - 1

    def slower_than(self, other: StepTime) -> float:
        """Median of the rounds' ratios."""
        return median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))


@dataclass(frozen=True)
class Target:
    text: str
    measured: str
    met: bool


def contender_table(rows: Sequence[StepTime]) -> Table:
    by_name = {row.contender: row for row in rows}
    first = rows[0]
    table = Table(
        "averaged by", "step", "fp32 / it", "fp16 / it", "encode", "decode", "wire*", "waits",
        "exposed", "sent", "predicted", "off",
        title=f"{first.model}, {first.link}: compute {_ms(median(first.compute))}, medians of "
        f"{len(first.seconds)}", title_justify="left",
    )  # fmt: skip
    for row in rows:
        table.add_row(
            row.contender,
            _ms(row.step),
            f"{by_name[FP32].slower_than(row):.2f}",
            f"{by_name[FP16].slower_than(row):.2f}",
            _ms(row.encode_s),
            _ms(row.decode_s),
            _ms(row.wire_s),
            _ms(row.wait_s),
            _ms(row.exposed),
            "-" if row.sent_bytes is None else f"{row.sent_bytes / 1e3:,.0f} kB",
            _ms(row.predicted_s),
            "-" if row.miss is None else f"{row.miss:+.0%}",
        )
    return table


LEGEND = """\
fp32 / it, fp16 / it: how many times faster, medians of the rounds' ratios. encode, decode: of all
threads. wire*: computed, what the bytes take on an idle link. waits: in collectives, both lanes
together. exposed: step - compute. predicted: computed by lgreco.step_time; off: its miss.
"""


def targets(results: Sequence[StepTime]) -> list[Target]:
    """Those of the links and models that there are."""
    found = []
    for model in dict.fromkeys(r.model for r in results):
        for link in dict.fromkeys(r.link for r in results):
            by_name = {r.contender: r for r in results if (r.link, r.model) == (link, model)}
            found += _speed_targets(link, model, by_name)
    found.append(_prediction_target(results))
    return found


def _speed_targets(link: str, model: str, by_name: dict[str, StepTime]) -> list[Target]:
    ours, passing = by_name[LGRECO_POWERSGD], by_name[LGRECO_TIME]
    faster = {peer: by_name[peer].slower_than(ours) for peer in (FP32, FP16)}
    where = f"{model}, {link}, {LGRECO_POWERSGD}"
    if link == "100 Mb/s":
        return [
            _at_least(f"{where}: >= 6x faster than fp32", faster[FP32], 6),
            _at_least(f"{where}: >= 3x faster than fp16", faster[FP16], 3),
        ]
    if link == "1 Gb/s":
        return [
            _at_least(f"{where}: >= 1.5x faster than fp32", faster[FP32], 1.5),
            _at_least(f"{where}: never slower than fp16", faster[FP16], 1),
            _at_most(
                f"{where}: exposed communication and codec <= 15 % of compute",
                ours.exposed / median(ours.compute),
                0.15,
            ),
        ]
    if link == "unlimited":
        slower = passing.slower_than(by_name[FP32]) - 1
        text = f"{model}, {link}, {LGRECO_TIME}: <= 5 % slower than DDP"
        return [_at_most(text, slower, 0.05)]
    return []


def _prediction_target(results: Sequence[StepTime]) -> Target:
    misses = [abs(r.miss) for r in results if r.miss is not None]
    within = sum(miss <= LARGEST_MISS for miss in misses)
    return Target(
        f"predicted steps within {LARGEST_MISS:.0%}",
        f"{within} of {len(misses)}, median {median(misses):.0%}, worst {max(misses):.0%}",
        within == len(misses),
    )


def _at_least(text: str, value: float, least: float) -> Target:
    return Target(text, f"{value:.2f}x", value >= least)


def _at_most(text: str, value: float, most: float) -> Target:
    return Target(text, f"{value:+.1%}", value <= most)


def targets_table(found: Sequence[Target]) -> Table:
    table = Table("target", "measured", "met", title="Targets", title_justify="left")
    for target in found:
        table.add_row(target.text, target.measured, "yes" if target.met else "NO")
    return table


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.0f} ms"
