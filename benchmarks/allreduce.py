"""One averaged tensor: every method against Gloo's and MPI's all-reduce, over sizes and ranks.

python -m benchmarks.allreduce          (make bench-allreduce)

A square matrix of normal numbers is averaged over loopback by lgreco.Aggregator.average_, and by
torch.distributed.all_reduce in fp32, and in bf16 with the casts there and back. All alternate, in
the same processes. Over MPI the C++ program adaptors/mpi/mpi_benchmark.cc does the same against
MPI_Allreduce in fp32.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import torch.distributed as dist
import typer

import lgreco
from benchmarks.cpp import built
from benchmarks.ranks import measured_on, run_as_rank
from benchmarks.report import Grid, publish

METHODS = ["dense", "cast:bf16", "quantize:8", "quantize:4", "topk:0.01", "low_rank:4"]
GLOO, MPI = "Gloo", "MPI"
FP32, BF16 = "all-reduce fp32", "all-reduce bf16"
KIB, MIB = 2**10, 2**20
SIZES = {
    2: (KIB, 32 * KIB, MIB, 16 * MIB, 64 * MIB, 256 * MIB),
    4: (KIB, 32 * KIB, MIB, 16 * MIB, 64 * MIB),
    8: (KIB, 32 * KIB, MIB, 16 * MIB),
}
LARGE = 64 * MIB
# Open MPI on fewer cores than ranks, and as root; other MPIs ignore it.
MPI_SETTINGS = {
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}

Average = Callable[[torch.Tensor], None]


@dataclass
class Timing:
    """Seconds of every round, and bytes that rank 0 sent in one (None: not counted)."""

    network: str
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


def repeats_of(size: int) -> int:
    """In one measurement: of small ones."""
    return max(1, min(50, 64 * KIB // size))


def measure(size: int, rounds: int) -> Iterator[Timing]:
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
        yield from _alternate(size, made, rounds)
        return
    for name, make in contenders.items():
        yield from _alternate(size, {name: make()}, rounds)


def _alternate(size: int, contenders: dict[str, Average], rounds: int) -> Iterator[Timing]:
    generator = torch.Generator().manual_seed(dist.get_rank())
    side = side_of(size)
    source = torch.randn(side, side, generator=generator)
    tensor = torch.empty_like(source)
    repeats = repeats_of(size)

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
        yield Timing(GLOO, dist.get_world_size(), size, name, times[name], sent)


def over_mpi(program: Path, ranks: int, size: int, rounds: int) -> list[Timing]:
    side = str(side_of(size))
    command = ["mpiexec", "-n", str(ranks), program, side, str(repeats_of(size)), str(rounds)]
    output = subprocess.run(
        [*command, *METHODS], env=os.environ | MPI_SETTINGS, stdout=subprocess.PIPE, check=True
    ).stdout
    lines = [json.loads(line) for line in output.splitlines()]
    return [Timing(MPI, ranks, size, **line) for line in lines]


def tables(data: list[dict]) -> list[Grid]:
    results = [Timing(**row) for row in data]
    return [
        table_of([r for r in results if (r.network, r.ranks) == place], *place)
        for place in dict.fromkeys((r.network, r.ranks) for r in results)
    ]


def table_of(results: list[Timing], network: str, ranks: int) -> Grid:
    methods = list(dict.fromkeys(r.method for r in results))
    rows = []
    for size in dict.fromkeys(r.size for r in results):
        seconds = {r.method: median(r.seconds) for r in results if r.size == size}
        cells = [f"{1e3 * seconds[m]:.3g} ms ({seconds[FP32] / seconds[m]:.2g}x)" for m in methods]
        rows.append((readable(size), *cells))
    return Grid(("fp32 bytes", *methods), rows, title=f"{network}, {ranks} ranks")


def readable(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"


def main(
    ranks: Annotated[list[int] | None, typer.Option(help="Repeatable: 2, 4 or 8.")] = None,
    largest: Annotated[int, typer.Option(help="In MiB.")] = 256,
    rounds: Annotated[int, typer.Option(min=1, help="Of each method.")] = 7,
    rank: Annotated[bool, typer.Option(hidden=True, help="Run as a rank.")] = False,
) -> None:
    """Average one tensor in many ways."""
    sizes = {count: [s for s in SIZES[count] if s <= largest * MIB] for count in ranks or SIZES}
    if rank:
        run_as_rank(lambda: (t for s in sizes[dist.get_world_size()] for t in measure(s, rounds)))
        return
    results: list[Timing] = []
    for count in sizes:
        arguments = f"--largest={largest}", f"--rounds={rounds}"
        results += measured_on(count, "benchmarks.allreduce", Timing, *arguments)
    if shutil.which("mpicxx") is None:
        print("MPI is not compared: apt-get install libopenmpi-dev openmpi-bin")
    else:
        program = built("adaptors/mpi/mpi_benchmark", "LGRECO_MPI=ON")
        for count in sizes:
            for size in sizes[count]:
                results += over_mpi(program, count, size, rounds)
    publish("allreduce", [asdict(result) for result in results], tables)


if __name__ == "__main__":
    typer.run(main)
