"""Tables and targets of the benchmark of ranks and layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.report import Grid, Target, at_most_times, target_grid, yes_or_no
from lgreco.step_time import MESSAGE_BYTES

MOST_SECONDS_A_LAYER = 2e-6
MOST_MEMORY = 1.1  # of residual and two buckets
NEGLIGIBLE = 1.01  # what rounding to whole bytes and values adds


@dataclass
class Times:
    """Seconds a step, of every round: on the clock, and of all this process's threads together."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


@dataclass
class Scaling:
    """Of rank 0, but for what is sent, which is the mean of all ranks; of one step.

    Attributes:
        buckets: bytes of each of DDP's.
        memory: what compression.memory() says, in bytes by kind.
        grown: bytes that the process holds more than after plain steps of the same model.
    """

    ranks: int
    cores: int
    elements: int
    layers: int
    method: str
    buckets: list[int]
    plain: Times
    compressed: Times
    sent_bytes: float
    messages: float
    memory: dict[str, int]
    grown: int

    def __post_init__(self) -> None:
        if isinstance(self.plain, dict):  # from JSON
            self.plain, self.compressed = Times(**self.plain), Times(**self.compressed)

    @property
    def wall_a_layer(self) -> float:
        """Seconds beyond plain DDP, in the same rounds."""
        return _median_difference(self.compressed.wall, self.plain.wall) / self.layers

    @property
    def cpu_a_layer(self) -> float:
        """The same in CPU time, which other programs on the machine hardly change."""
        return _median_difference(self.compressed.cpu, self.plain.cpu) / self.layers

    @property
    def payload_bytes(self) -> float:
        """Of `sent_bytes`: without what every message has besides. Each layer has a flag in every
        message of its bucket; a step ends with one message to each peer."""
        flags = self.layers * (self.messages - (self.ranks - 1)) / len(self.buckets)
        return self.sent_bytes - MESSAGE_BYTES * self.messages - flags

    @property
    def memory_bytes(self) -> int:
        return sum(self.memory.values())

    @property
    def allowed_bytes(self) -> float:
        two_buckets = sum(sorted(self.buckets)[-2:])
        return MOST_MEMORY * (self.memory["residuals"] + two_buckets)


def _median_difference(values: list[float], others: list[float]) -> float:
    return median(a - b for a, b in zip(values, others, strict=True))


@dataclass(frozen=True)
class Growth:
    """From few ranks to many, of the same layers and method."""

    few: Scaling
    many: Scaling

    @property
    def payload(self) -> float:
        return self.many.payload_bytes / self.few.payload_bytes

    @property
    def plain(self) -> float:
        return median(self.many.plain.wall) / median(self.few.plain.wall)

    @property
    def compressed(self) -> float:
        return median(self.many.compressed.wall) / median(self.few.compressed.wall)

    @property
    def traffic(self) -> float:
        """By how much 2(N-1)/N grows."""
        return _of_payload(self.many.ranks) / _of_payload(self.few.ranks)

    @property
    def work_a_core(self) -> float:
        """By how much the ranks that share a core grow."""
        return max(1, self.many.ranks / self.many.cores) / max(1, self.few.ranks / self.few.cores)


def _of_payload(ranks: int) -> float:
    return 2 * (ranks - 1) / ranks


def growths(results: Sequence[Scaling]) -> Iterator[Growth]:
    by_place = {(r.layers, r.method, r.ranks): r for r in results}
    least, most = min(r.ranks for r in results), max(r.ranks for r in results)
    for layers, method in dict.fromkeys((r.layers, r.method) for r in results):
        yield Growth(by_place[layers, method, least], by_place[layers, method, most])


def tables(data: Sequence[dict]) -> list[Grid]:
    results = [Scaling(**row) for row in data]
    grown = list(growths(results))
    return [step_grid(results), memory_grid(results), growth_grid(grown),
            target_grid(targets(results, grown))]  # fmt: skip


def step_grid(results: Sequence[Scaling]) -> Grid:
    columns = (
        "ranks", "layers", "method", "sent by a rank", "plain DDP", "compressed",
        "us a layer, clock", "CPU",
    )  # fmt: skip
    rows = [
        (
            *_place(r),
            f"{r.sent_bytes / 1e3:,.0f} kB",
            f"{1e3 * median(r.plain.wall):.1f} ms",
            f"{1e3 * median(r.compressed.wall):.1f} ms",
            f"{1e6 * r.wall_a_layer:.2f}",
            f"{1e6 * r.cpu_a_layer:.2f}",
        )
        for r in results
    ]
    return Grid(columns, rows, labels=3)


def memory_grid(results: Sequence[Scaling]) -> Grid:
    columns = (
        "ranks", "layers", "method", "residual", "two buckets", "allowed", "memory()",
        "process grew", "within",
    )  # fmt: skip
    rows = [
        (
            *_place(r),
            *(
                f"{size / 1e6:.1f} MB"
                for size in (
                    r.memory["residuals"],
                    sum(sorted(r.buckets)[-2:]),
                    r.allowed_bytes,
                    r.memory_bytes,
                    r.grown,
                )
            ),
            ", ".join(yes_or_no(held <= r.allowed_bytes) for held in (r.memory_bytes, r.grown)),
        )
        for r in results
    ]
    return Grid(columns, rows, labels=3)


def growth_grid(grown: Sequence[Growth]) -> Grid:
    few, many = grown[0].few.ranks, grown[0].many.ranks
    columns = (
        "layers", "method", "sent by a rank", "without headers", "plain DDP's step",
        "compressed step",
    )  # fmt: skip
    rows = [
        (
            f"{g.few.layers:,}",
            g.few.method,
            f"{g.many.sent_bytes / g.few.sent_bytes:.2f}x",
            f"{g.payload:.2f}x",
            f"{g.plain:.2f}x",
            f"{g.compressed:.2f}x",
        )
        for g in grown
    ]
    return Grid(columns, rows, f"{many} ranks over {few}", labels=2)


def _place(result: Scaling) -> tuple[str, str, str]:
    return str(result.ranks), f"{result.layers:,}", result.method


def targets(results: Sequence[Scaling], grown: Sequence[Growth]) -> list[Target]:
    place = (max(r.layers for r in results), min(r.ranks for r in results))
    hook = max(
        (r for r in results if (r.layers, r.ranks) == place), key=lambda row: row.wall_a_layer
    )
    limit = f"{MOST_MEMORY} x (residual + two buckets)"
    within = {
        "memory()": [r.memory_bytes <= r.allowed_bytes for r in results],
        "growth of the process": [r.grown <= r.allowed_bytes for r in results],
    }
    ranks = f"{grown[0].many.ranks} ranks over {grown[0].few.ranks}"
    return [
        Target(
            f"{hook.layers:,} layers of {hook.elements // hook.layers:,}, {hook.ranks} ranks, "
            f"any method: <= {1e6 * MOST_SECONDS_A_LAYER:g} us a layer beyond DDP",
            f"{1e6 * hook.wall_a_layer:.2f} us, of CPU {1e6 * hook.cpu_a_layer:.2f} us",
            hook.wall_a_layer <= MOST_SECONDS_A_LAYER,
        ),
        *(
            Target(f"{what} <= {limit}", f"{sum(rows)} of {len(rows)}", all(rows))
            for what, rows in within.items()
        ),
        at_most_times(
            f"{ranks}: bytes without headers, as (N-1)/N and 1% explain,",
            max(g.payload for g in grown),
            NEGLIGIBLE * grown[0].traffic,
        ),
        at_most_times(
            f"{ranks}: compressed steps, as (N-1)/N and ranks a core explain,",
            max(g.compressed for g in grown),
            grown[0].traffic * grown[0].work_a_core,
        ),
    ]
