"""More ranks and more layers: bytes, time and memory of a step, and what the hook costs a layer.

python -m benchmarks.scale          (make bench-scale)

A model of vectors whose gradients are given has nearly no compute, so that a step is what DDP, the
hook and the network take. Plain DDP and compressed steps alternate. The hook's cost of a layer is
what a compressed step takes beyond plain DDP's, over the layers, on the clock and of CPU time:
vectors suit no low rank, so that with low_rank:4 all of them travel dense.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lgreco
from benchmarks.ranks import results_in, run_as_rank, torchrun

ELEMENTS = 1_000_000
LAYERS = (1, 10, 100, 1_000)
RANKS = (2, 4, 8)
METHODS = ["low_rank:4", "quantize:4", "topk:0.01"]
ROUNDS = 15
STEPS = 4
WARM_UP_STEPS = 4
MOST_SECONDS_A_LAYER = 2e-6
OUTPUT = Path("benchmarks/results/scale.json")


@dataclass
class Times:
    """Seconds a step, of every round: on the clock, and of all this process's threads together."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, ddp: DistributedDataParallel, steps: int) -> None:
        """Collective."""
        dist.barrier()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            ddp.zero_grad()
            ddp().backward()
        dist.barrier()
        self.wall.append((time.perf_counter() - wall) / steps)
        self.cpu.append((time.process_time() - cpu) / steps)


@dataclass
class Scaling:
    """Of rank 0; bytes, and seconds a step of every round.

    Attributes:
        memory: what compression.memory() says, by kind.
        resident: how much the process grew by compression and its first steps.
    """

    ranks: int
    layers: int
    method: str
    plain: Times
    compressed: Times
    sent_bytes: float
    memory: dict[str, int]
    resident: int

    def __post_init__(self) -> None:
        if isinstance(self.plain, dict):  # as it comes from a rank
            self.plain, self.compressed = Times(**self.plain), Times(**self.compressed)

    @property
    def wall_a_layer(self) -> float:
        """Seconds beyond plain DDP, in the same rounds."""
        return _median_difference(self.compressed.wall, self.plain.wall) / self.layers

    @property
    def cpu_a_layer(self) -> float:
        """The same in CPU time, which other programs on the machine hardly change."""
        return _median_difference(self.compressed.cpu, self.plain.cpu) / self.layers


def _median_difference(values: list[float], others: list[float]) -> float:
    return median(a - b for a, b in zip(values, others, strict=True))


class Known(torch.autograd.Function):
    """A loss whose gradients are given: what a step takes is then not compute."""

    @staticmethod
    def forward(ctx, gradients, *_parameters):
        ctx.gradients = gradients
        return torch.zeros(())

    @staticmethod
    def backward(ctx, _):
        return None, *ctx.gradients


class Vectors(nn.Module):
    """Parameters of equal length with random gradients, the same in every step."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        count = ELEMENTS // layers
        self.vectors = nn.ParameterList(nn.Parameter(torch.zeros(count)) for _ in range(layers))
        generator = torch.Generator().manual_seed(dist.get_rank())
        self.gradients = [torch.randn(count, generator=generator) for _ in range(layers)]

    def forward(self) -> torch.Tensor:
        return Known.apply(self.gradients, *self.vectors)


def resident_bytes() -> int:
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line
    )
    return 1024 * int(line.split()[1])


def measure(layers: int, method: str) -> Scaling:
    """Collective."""
    gc.collect()
    plain = DistributedDataParallel(Vectors(layers))
    Times().add(plain, WARM_UP_STEPS)
    ddp = DistributedDataParallel(Vectors(layers))
    before = resident_bytes()
    compression = lgreco.compress(ddp, lgreco.method(method))
    Times().add(ddp, WARM_UP_STEPS)
    resident = resident_bytes() - before
    sent = compression.stats()["bytes_sent"]
    times = Times(), Times()
    for _ in range(ROUNDS):
        times[0].add(plain, STEPS)
        times[1].add(ddp, STEPS)
    return Scaling(
        ranks=dist.get_world_size(),
        layers=layers,
        method=method,
        plain=times[0],
        compressed=times[1],
        sent_bytes=(compression.stats()["bytes_sent"] - sent) / (ROUNDS * STEPS),
        memory=compression.memory(),
        resident=resident,
    )


def measure_all() -> Iterator[Scaling]:
    return (measure(layers, method) for layers in LAYERS for method in METHODS)


def run_ranks(ranks: int) -> list[Scaling]:
    result = subprocess.run(
        torchrun(ranks, "benchmarks.scale"), capture_output=True, text=True, check=False
    )
    results = results_in(result.stdout, Scaling)
    if len(results) < len(LAYERS) * len(METHODS):
        raise SystemExit(f"{ranks} ranks failed:\n{result.stdout}{result.stderr}")
    return results


def report(results: list[Scaling]) -> None:
    table = Table(
        "ranks", "layers", "method", "sent a rank", "plain DDP", "compressed", "us a layer",
        "CPU us", "memory()", "process grew",
        title=f"{ELEMENTS:,} elements; medians of {ROUNDS}", title_justify="left",
    )  # fmt: skip
    for r in results:
        table.add_row(
            str(r.ranks),
            f"{r.layers:,}",
            r.method,
            f"{r.sent_bytes / 1e3:,.0f} kB",
            f"{1e3 * median(r.plain.wall):.2f} ms",
            f"{1e3 * median(r.compressed.wall):.2f} ms",
            f"{1e6 * r.wall_a_layer:.2f}",
            f"{1e6 * r.cpu_a_layer:.2f}",
            f"{sum(r.memory.values()) / 1e6:.1f} MB",
            f"{r.resident / 1e6:.1f} MB",
        )
    console = Console(width=120)
    console.print(table)
    target = next(r for r in results if r.layers == max(LAYERS))
    met = "yes" if target.wall_a_layer <= MOST_SECONDS_A_LAYER else "NO"
    console.print(
        f"Hook, {target.layers:,} layers of {ELEMENTS // target.layers:,} elements, {target.ranks} "
        f"ranks, {target.method}: {1e6 * target.wall_a_layer:.2f} us a layer beyond DDP "
        f"(<= {1e6 * MOST_SECONDS_A_LAYER:.0f}: {met}), of CPU {1e6 * target.cpu_a_layer:.2f} us"
    )
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")


def main() -> None:
    report([result for ranks in RANKS for result in run_ranks(ranks)])


if __name__ == "__main__":
    run_as_rank(measure_all) if "--rank" in sys.argv else main()
