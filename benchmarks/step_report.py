"""Tables and targets of the benchmark of whole steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.contenders import FP16, FP32, LGRECO_POWERSGD, LGRECO_TIME
from benchmarks.report import Grid, Target, at_least, at_most, target_grid
from benchmarks.workloads import WORKLOADS

LARGEST_MISS = 0.15
BATCHES_LINK = "1 Gb/s"
FASTER_THAN_FP32 = 1.5  # there
MOST_EXPOSED = 0.15  # of compute, there


@dataclass
class StepTime:
    """Of one contender; seconds and bytes a step, of rank 0. None where a contender does not tell.

    Attributes:
        samples: of a rank's batch.
        compute, seconds: of every round, a step without communication and the contender's.
        encode_s, decode_s: of all threads of this rank.
        wait_s: that its lanes spent in collectives.
        wire_s: what the bytes take at the rate that Gloo's collectives get; computed.
        predicted_s: by lgreco.step_time, from the network, window_s, early and overlap.
        levels: how many layers have which level.
    """

    link: str
    model: str
    samples: int
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
    def exposed_of_compute(self) -> float:
        return self.exposed / median(self.compute)

    @property
    def miss(self) -> float | None:
        """Of the prediction, as a share of the measured step."""
        return None if self.predicted_s is None else self.predicted_s / self.step - 1

    def slower_than(self, other: StepTime) -> float:
        """Median of the rounds' ratios."""
        return median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))


def tables(data: Sequence[dict]) -> list[Grid]:
    results = [StepTime(**row) for row in data]
    usual = [r for r in results if r.samples == WORKLOADS[r.model].samples]
    places = dict.fromkeys((r.model, r.link) for r in usual)
    grids = [contender_grid([r for r in usual if (r.model, r.link) == p]) for p in places]
    for model in dict.fromkeys(r.model for r in results if r not in usual):
        grids.append(batch_grid([r for r in results if (r.model, r.link) == (model, BATCHES_LINK)]))
    return [*grids, target_grid(targets(usual))]


def contender_grid(rows: Sequence[StepTime]) -> Grid:
    by_name = {row.contender: row for row in rows}
    first = rows[0]
    columns = (
        "averaged by", "step, ms", "fp32 / it", "fp16 / it", "encode", "decode", "wire, computed",
        "waits", "exposed", "sent, kB", "predicted, computed", "off",
    )  # fmt: skip
    cells = [
        (
            row.contender,
            _ms(row.step),
            f"{by_name[FP32].slower_than(row):.2f}",
            f"{by_name[FP16].slower_than(row):.2f}",
            _ms(row.encode_s),
            _ms(row.decode_s),
            _ms(row.wire_s),
            _ms(row.wait_s),
            _ms(row.exposed),
            "-" if row.sent_bytes is None else f"{row.sent_bytes / 1e3:,.0f}",
            _ms(row.predicted_s),
            "-" if row.miss is None else f"{row.miss:+.0%}",
        )
        for row in rows
    ]
    title = f"{first.model}, {first.link}: compute {_ms(median(first.compute))} ms"
    return Grid(columns, cells, title)


def batch_grid(results: Sequence[StepTime]) -> Grid:
    """Of one model and link: what the size of the batch changes."""
    columns = (
        "samples a rank", "compute, ms", "DDP fp32, ms", f"{LGRECO_POWERSGD}, ms", "fp32 / it",
        "fp16 / it", "exposed of compute",
        f">= {FASTER_THAN_FP32}x and <= {MOST_EXPOSED:.0%}",
    )  # fmt: skip
    rows = []
    for samples in sorted({r.samples for r in results}):
        by_name = {r.contender: r for r in results if r.samples == samples}
        fp32, ours = by_name[FP32], by_name[LGRECO_POWERSGD]
        faster, exposed = fp32.slower_than(ours), ours.exposed_of_compute
        both = faster >= FASTER_THAN_FP32 and exposed <= MOST_EXPOSED
        rows.append(
            (
                str(samples),
                _ms(median(ours.compute)),
                _ms(fp32.step),
                _ms(ours.step),
                f"{faster:.2f}",
                f"{by_name[FP16].slower_than(ours):.2f}",
                f"{exposed:.1%}",
                "both" if both else "not both",
            )
        )
    return Grid(columns, rows, f"{results[0].model}, {results[0].link}")


def targets(results: Sequence[StepTime]) -> list[Target]:
    """Those of the links and models that there are."""
    found = []
    for model in dict.fromkeys(r.model for r in results):
        for link in dict.fromkeys(r.link for r in results):
            by_name = {r.contender: r for r in results if (r.link, r.model) == (link, model)}
            if by_name:
                found += _speed_targets(link, model, by_name)
    found.append(_prediction_target(results))
    return found


def _speed_targets(link: str, model: str, by_name: dict[str, StepTime]) -> list[Target]:
    ours, fp32, fp16 = by_name[LGRECO_POWERSGD], by_name[FP32], by_name[FP16]
    where = f"{model}, {link}, {LGRECO_POWERSGD}"
    if link == "100 Mb/s":
        return [
            at_least(f"{where}: speed against fp32", fp32.slower_than(ours), 6),
            at_least(f"{where}: speed against fp16", fp16.slower_than(ours), 3),
        ]
    if link == BATCHES_LINK:
        exposed = f"{where}: exposed communication and codec, of compute,"
        return [
            at_least(f"{where}: speed against fp32", fp32.slower_than(ours), FASTER_THAN_FP32),
            at_least(f"{where}: speed against fp16", fp16.slower_than(ours), 1),
            at_most(exposed, ours.exposed_of_compute, MOST_EXPOSED),
        ]
    if link == "unlimited":
        slower = by_name[LGRECO_TIME].slower_than(fp32) - 1
        return [at_most(f"{model}, {link}, {LGRECO_TIME}: slower than DDP by", slower, 0.05)]
    return []


def _prediction_target(results: Sequence[StepTime]) -> Target:
    misses = [abs(r.miss) for r in results if r.miss is not None]
    within = sum(miss <= LARGEST_MISS for miss in misses)
    return Target(
        f"predicted steps within {LARGEST_MISS:.0%}",
        f"{within} of {len(misses)}, median {median(misses):.0%}, worst {max(misses):.0%}",
        within == len(misses),
    )


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:,.0f}"
