"""One averaged tensor: every method against Gloo's all_reduce, over sizes and ranks.

python -m benchmarks.allreduce          (make bench-allreduce)

A square matrix of normal numbers is averaged over loopback by lgreco.Aggregator.average_, and by
torch.distributed.all_reduce in fp32, and in bf16 with the casts there and back. All alternate, in
the same processes. MPI is not compared.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import torch.distributed as dist
import typer
from rich.console import Console
from rich.table import Table

import lgreco
from benchmarks.ranks import results_in, run_as_rank, torchrun

METHODS = ["dense", "cast:bf16", "quantize:8", "quantize:4", "topk:0.01", "low_rank:4"]
FP32, BF16 = "Gloo fp32", "Gloo bf16"
KIB, MIB = 2**10, 2**20
SIZES = {
    2: (KIB, 32 * KIB, MIB, 16 * MIB, 64 * MIB, 256 * MIB),
    4: (KIB, 32 * KIB, MIB, 16 * MIB, 64 * MIB),
    8: (KIB, 32 * KIB, MIB, 16 * MIB),
}
ROUNDS = 7
LARGE_ROUNDS = 5
LARGE = 64 * MIB
OUTPUT = Path("benchmarks/results/allreduce.json")

Average = Callable[[torch.Tensor], None]


@dataclass
class Timing:
    """Seconds of every round, and bytes that rank 0 sent in one (None: not counted)."""

    ranks: int
    size: int
    method: str
    seconds: list[float]
    sent_bytes: float | None


class Ours:
    """An aggregator of one tensor."""

    def __init__(self, shape: tuple[int, int], method: str) -> None:
        self.aggregator = lgreco.Aggregator({"tensor": shape}, lgreco.method(method))

    def __call__(self, tensor: torch.Tensor) -> None:
        self.aggregator.average_({"tensor": tensor})

    def sent_bytes(self) -> float:
        return self.aggregator.stats()["bytes_sent"]


def gloo_fp32(tensor: torch.Tensor) -> None:
    dist.all_reduce(tensor)
    tensor.div_(dist.get_world_size())


def gloo_bf16(tensor: torch.Tensor) -> None:
    narrow = tensor.to(torch.bfloat16)
    dist.all_reduce(narrow)
    tensor.copy_(narrow.div_(dist.get_world_size()))


def side_of(size: int) -> int:
    """Rows and columns of the square fp32 matrix of about `size` bytes."""
    return math.isqrt(size // 4)


def measure(size: int) -> Iterator[Timing]:
    """Collective. Large tensors one contender after the other, as all do not fit in memory."""
    contenders: dict[str, Callable[[], Average]] = {
        FP32: lambda: gloo_fp32,
        BF16: lambda: gloo_bf16,
    }
    shape = (side_of(size), side_of(size))
    for method in METHODS:
        contenders[method] = lambda method=method: Ours(shape, method)
    if size < LARGE:
        made = {name: make() for name, make in contenders.items()}
        yield from _alternate(size, made, ROUNDS)
        return
    for name, make in contenders.items():
        yield from _alternate(size, {name: make()}, LARGE_ROUNDS)


def _alternate(size: int, contenders: dict[str, Average], rounds: int) -> Iterator[Timing]:
    generator = torch.Generator().manual_seed(dist.get_rank())
    side = side_of(size)
    source = torch.randn(side, side, generator=generator)
    tensor = torch.empty_like(source)
    repeats = max(1, min(50, 64 * KIB // size))  # of small ones, in one measurement

    def seconds(average: Average) -> float:
        total = 0.0
        for _ in range(repeats):
            tensor.copy_(source)
            dist.barrier()
            begin = time.perf_counter()
            average(tensor)
            total += time.perf_counter() - begin
        return total / repeats

    for average in contenders.values():
        seconds(average)
    before = {n: c.sent_bytes() for n, c in contenders.items() if isinstance(c, Ours)}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, average in contenders.items():
            times[name].append(seconds(average))
    for name, average in contenders.items():
        sent = None
        if isinstance(average, Ours):
            sent = (average.sent_bytes() - before[name]) / (rounds * repeats)
        yield Timing(dist.get_world_size(), size, name, times[name], sent)


def run_ranks(ranks: int) -> list[Timing]:
    result = subprocess.run(
        torchrun(ranks, "benchmarks.allreduce"), capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise SystemExit(f"{ranks} ranks failed:\n{result.stdout}{result.stderr}")
    return results_in(result.stdout, Timing)


def report(results: list[Timing]) -> None:
    console = Console(width=150)
    for ranks in dict.fromkeys(r.ranks for r in results):
        of_ranks = [r for r in results if r.ranks == ranks]
        methods = list(dict.fromkeys(r.method for r in of_ranks))
        table = Table("fp32 bytes", *methods, title=f"{ranks} ranks", title_justify="left")
        for size in dict.fromkeys(r.size for r in of_ranks):
            row = {r.method: median(r.seconds) for r in of_ranks if r.size == size}
            cells = [f"{1e3 * row[m]:.3g} ms ({row[FP32] / row[m]:.2f}x)" for m in methods]
            table.add_row(readable(size), *cells)
        console.print(table)
    console.print(f"Medians of {LARGE_ROUNDS} to {ROUNDS}; in brackets: times faster than {FP32}.")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")


def readable(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"


def main(
    ranks: Annotated[list[int] | None, typer.Option(help="Repeatable: 2, 4 or 8.")] = None,
) -> None:
    """Average one tensor in many ways."""
    report([timing for count in ranks or SIZES for timing in run_ranks(count)])


def measure_all() -> Iterator[Timing]:
    return (timing for size in SIZES[dist.get_world_size()] for timing in measure(size))


if __name__ == "__main__":
    run_as_rank(measure_all) if "--rank" in sys.argv else typer.run(main)
