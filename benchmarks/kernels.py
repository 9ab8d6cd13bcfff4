"""Kernels and methods against moving the same memory, and against what PyTorch offers; one thread.

python -m benchmarks.kernels          (make bench-kernels)

The C++ side is src/compressors/compressors_benchmark.cc, which runs one pass at a time on request.
Everything that is compared is taken in turn, so that what else the machine does falls on all; times
are CPU time of the thread, speeds are medians, and a ratio is the median of those of each turn.
"""

from __future__ import annotations

import subprocess
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
import typer
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import _orthogonalize

from benchmarks.cpp import built
from benchmarks.report import Grid, Target, at_least, publish, target_grid

REPETITIONS = 9
LEAST_GIGABYTES_PER_S = 1
TOPK_COUNT = 10_000_000
BUCKETS = (15_625, 1024)
ROWS, COLS, RANK = 512, 4608, 4

LEVELS = [
    "dense",
    "cast:bf16",
    "cast:fp16",
    *(f"quantize:{bits}" for bits in range(1, 9)),
    "quantize:4:rounding=stochastic",
    "quantize:8:rounding=stochastic",
    *(f"entropy:{rate}" for rate in (0.1, 0.5, 1, 2, 4, 8)),
    "topk:0.01",
    "topk:0.001",
    "topk:0.1:values=2",
    "topk:0.01:values=bf16",
]
KERNELS = [
    *("add", "scale", "all_finite", "max_magnitude", "sum_squares", "range_of"),
    *("to_bf16", "from_bf16", "to_f16", "from_f16"),
    *(
        f"{name} {bits}"
        for name in ("quantize_pack", "unpack_dequantize_add")
        for bits in (1, 4, 8)
    ),
    *(f"lloyd_max_loss {bits}" for bits in (2, 4, 8)),
    *("rounding_loss", "find_threshold", "select_block"),
    *(
        f"{name} {rank}"
        for name in ("multiply", "multiply_transposed", "reconstruct")
        for rank in (1, 2, 4, 8)
    ),
]
MATRIX_STEPS = [
    *(f"step low_rank:{rank}" for rank in (1, 2, 3, 4, 6, 8, 16)),
    *(f"step low_rank:{rank}:factors=8" for rank in (1, 4, 16)),
    "step low_rank:4:factors=4",
]

Pass = Callable[[], float]  # runs once and returns its seconds


@dataclass
class Speed:
    """Of one pass over `values` fp32 values."""

    name: str
    values: int
    seconds: float
    least_s: float
    gigabytes_per_s: float  # of fp32 input
    of_memcpy: float  # speed over that of a memcpy of as many values


@dataclass
class Comparison:
    name: str
    peer: str
    seconds: float
    peer_s: float
    ratio: float  # how many times faster than the peer
    target: float | None


class Library:
    """The benchmark binary, which answers the name of a case with its size and seconds."""

    def __init__(self, binary: Path):
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([binary], stdin=pipe, stdout=pipe, text=True)

    def run(self, name: str) -> tuple[int, float]:
        print(name, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline().split()
        if not answer:
            raise SystemExit(f"no answer for '{name}'")
        return int(answer[0]), float(answer[1])

    def values(self, name: str) -> int:
        return self.run(name)[0]

    def passing(self, name: str) -> Pass:
        return lambda: self.run(name)[1]


def timed(call: Callable[[], object]) -> Pass:
    def run() -> float:
        begin = time.thread_time()
        call()
        return time.thread_time() - begin

    return run


def in_turn(passes: dict[str, Pass]) -> dict[str, list[float]]:
    for run in passes.values():
        run()
    rounds = [{name: run() for name, run in passes.items()} for _ in range(REPETITIONS)]
    return {name: [times[name] for times in rounds] for name in passes}


def ratio(slow: list[float], fast: list[float]) -> float:
    return median(s / f for s, f in zip(slow, fast, strict=True))


def measure_speeds(library: Library, names: list[str]) -> list[Speed]:
    """All of `names` handle as many values."""
    values = library.values(names[0])
    copy = f"memcpy {values}"
    seconds = in_turn({name: library.passing(name) for name in [copy, *names]})
    return [
        Speed(
            name,
            values,
            median(seconds[name]),
            min(seconds[name]),
            4e-9 * values / median(seconds[name]),
            ratio(seconds[copy], seconds[name]),
        )
        for name in [copy, *names]
    ]


def compare(name: str, ours: Pass, peer: str, theirs: Pass, target: float | None) -> Comparison:
    seconds = in_turn({"ours": ours, "theirs": theirs})
    return Comparison(
        name,
        peer,
        median(seconds["ours"]),
        median(seconds["theirs"]),
        ratio(seconds["theirs"], seconds["ours"]),
        target,
    )


def torch_topk(density: float) -> Pass:
    x = torch.randn(TOPK_COUNT)
    return timed(lambda: torch.topk(x.abs(), round(density * TOPK_COUNT)))


def torch_quantize() -> Pass:
    """To 8 bits with given scales; the residual, the range and the loss are not in it."""
    warnings.filterwarnings("ignore", message="torch.quantize_per_tensor")  # deprecated
    x = torch.randn(BUCKETS)
    scales, zeros = torch.full(BUCKETS[:1], 8 / 255), torch.full(BUCKETS[:1], 128)
    return timed(lambda: torch.quantize_per_channel(x, scales, zeros, 0, torch.quint8))


def torch_power_sgd() -> Pass:
    """What powerSGD_hook does with one layer besides communication."""
    gradient, q = torch.randn(1, ROWS, COLS), torch.randn(1, COLS, RANK)
    p, error = torch.empty(1, ROWS, RANK), torch.zeros(1, ROWS, COLS)
    work = torch.empty_like(gradient)

    def step() -> None:
        torch.add(gradient, error, out=work)
        kept = work.clone()
        torch.bmm(work, q, out=p)
        _orthogonalize(p)
        torch.bmm(work.transpose(1, 2), p, out=q)
        torch.bmm(p, q.transpose(1, 2), out=work)
        torch.sub(kept, work, out=error)

    return timed(step)


def comparisons(library: Library) -> list[Comparison]:
    large = library.values("encode quantize:4")
    add, scale = f"e = g + e {large}", f"e = f * e {large}"
    return [
        compare("encode quantize:4", library.passing("encode quantize:4"),
                "reading g and e and writing e", library.passing(add), 0.5),
        compare("decode quantize:4", library.passing("decode quantize:4"),
                "reading and writing the sum", library.passing(scale), 0.5),
        compare("encode topk:0.01", library.passing("encode topk:0.01"),
                "torch.topk(x.abs(), k)", torch_topk(0.01), 20),
        compare("encode topk:0.001", library.passing("encode topk:0.001"),
                "torch.topk(x.abs(), k)", torch_topk(0.001), 20),
        compare("step low_rank:4", library.passing("step low_rank:4"),
                "local work of powerSGD_hook", torch_power_sgd(), 2),
        compare("encode quantize:8 nearest", library.passing("encode quantize:8"),
                "torch.quantize_per_channel", torch_quantize(), None),
    ]  # fmt: skip


def tables(data: dict) -> list[Grid]:
    compared = [Comparison(**row) for row in data["comparisons"]]
    speeds = {row["name"]: Speed(**row) for row in data["speeds"]}
    return [
        comparison_grid(compared),
        level_grid(speeds),
        kernel_grid(speeds),
        target_grid(targets(compared, speeds)),
    ]


def comparison_grid(compared: list[Comparison]) -> Grid:
    rows = [
        (c.name, c.peer, f"{1e3 * c.seconds:.2f} ms", f"{1e3 * c.peer_s:.2f} ms", f"{c.ratio:.2f}")
        for c in compared
    ]
    return Grid(("pass", "against", "time", "peer", "times as fast"), rows, labels=2)


def level_grid(speeds: dict[str, Speed]) -> Grid:
    """A step of a matrix level is all of its work."""
    rows = []
    for name in speeds:
        what, _, level = name.partition(" ")
        if what == "encode":
            cells = *_speed(speeds[name]), *_speed(speeds[f"decode {level}"])
            rows.append((level, *cells))
        elif what == "step":
            rows.append((f"{level}, the whole step", *_speed(speeds[name]), "-", "-"))
    columns = "level", "encode, GB/s", "of memcpy", "decode and add, GB/s", "of memcpy"
    return Grid(columns, rows)


def kernel_grid(speeds: dict[str, Speed]) -> Grid:
    rows = [
        (name.removeprefix("kernel "), *_speed(speed))
        for name, speed in speeds.items()
        if name.startswith("kernel ")
    ]
    return Grid(("kernel", "GB/s", "of memcpy"), rows)


def _speed(speed: Speed) -> tuple[str, str]:
    return f"{speed.gigabytes_per_s:.1f}", f"{speed.of_memcpy:.2f}"


def targets(compared: list[Comparison], speeds: dict[str, Speed]) -> list[Target]:
    passes = [s for s in speeds.values() if s.name.startswith(("encode", "decode", "step"))]
    slowest = min(passes, key=lambda s: s.gigabytes_per_s)
    floor = f"every encode, decode and step: >= {LEAST_GIGABYTES_PER_S} GB/s"
    return [
        *(
            at_least(f"{c.name}: speed against {c.peer}", c.ratio, c.target)
            for c in compared
            if c.target is not None
        ),
        Target(
            floor,
            f"{slowest.gigabytes_per_s:.1f} GB/s ({slowest.name})",
            slowest.gigabytes_per_s >= LEAST_GIGABYTES_PER_S,
        ),
    ]


def main(binary: Path | None = None) -> None:
    """`binary`: compressors_benchmark, built already."""
    torch.set_num_threads(1)
    library = Library(binary or built("src/compressors/compressors_benchmark"))
    compared = comparisons(library)
    passes = [f"{what} {level}" for level in LEVELS for what in ("encode", "decode")]
    speeds = [
        *measure_speeds(library, [p for p in passes if "topk" not in p]),
        *measure_speeds(library, [p for p in passes if "topk" in p]),
        *measure_speeds(library, MATRIX_STEPS),
        *measure_speeds(library, [f"kernel {kernel}" for kernel in KERNELS]),
    ]
    results = {
        "comparisons": [asdict(c) for c in compared],
        "speeds": [asdict(s) for s in speeds],
    }
    publish("kernels", results, tables)


if __name__ == "__main__":
    typer.run(main)
