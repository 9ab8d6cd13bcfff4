"""Counted bytes against the network interface's counter, per method, on 2, 4 and 8 ranks.

python -m benchmarks.bytes            (make bench-bytes; needs root for a private loopback)

Every rank averages gradients of ResNet-18 for CIFAR-100 (11,220,132 elements). The interface's
counter is that of the loopback in a network namespace of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table

import lgreco
from benchmarks.namespaces import on_private_loopback, require_namespaces
from benchmarks.ranks import results_in, run_as_rank, torchrun
from experiments.common.loopback import loopback_bytes
from experiments.resnet18.model import cifar100

METHODS = [
    "dense", "cast:bf16", "quantize:8", "quantize:4", "quantize:2", "topk:0.01", "topk:0.001",
    "low_rank:4", "low_rank:4:factors=bf16",
]  # fmt: skip
RANKS = (2, 4, 8)
STEPS = 3


@dataclass
class Measurement:
    """Bytes that all ranks together sent in one step."""

    ranks: int
    method: str
    counted: float
    interface: float
    messages: float


def measure(method: str) -> Measurement:
    """Collective: STEPS steps after a first one that opens the connections."""
    layers = {name: p.detach() for name, p in cifar100().named_parameters()}
    aggregator = lgreco.Aggregator(layers, lgreco.method(method), drift_check_every=0)
    generator = torch.Generator().manual_seed(dist.get_rank())

    def step() -> None:
        aggregator.average_(
            {name: torch.randn(t.shape, generator=generator) for name, t in layers.items()}
        )

    def sent() -> torch.Tensor:
        stats = aggregator.stats()
        total = torch.tensor([stats["bytes_sent"], stats["messages_sent"]], dtype=torch.float64)
        dist.all_reduce(total)
        return total

    def steps() -> None:
        for _ in range(STEPS):
            step()

    step()
    before = sent()
    interface = interface_bytes(steps) - interface_bytes(lambda: None)
    counted, messages = ((sent() - before) / STEPS).tolist()
    return Measurement(dist.get_world_size(), method, counted, interface / STEPS, messages)


def interface_bytes(work: Callable[[], None]) -> int:
    """What all ranks send while they work, and in the barriers around it. Collective."""
    dist.barrier()
    before = loopback_bytes()
    dist.barrier()
    work()
    dist.barrier()
    sent = loopback_bytes() - before
    dist.barrier()
    return sent


def run_ranks(ranks: int) -> list[Measurement]:
    command = on_private_loopback(torchrun(ranks, "benchmarks.bytes"))
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    results = results_in(result.stdout, Measurement)
    if len(results) < len(METHODS):
        raise SystemExit(f"{ranks} ranks failed:\n{result.stdout}{result.stderr}")
    return results


def main() -> None:
    require_namespaces()
    table = Table("method", *(f"{ranks} ranks" for ranks in RANKS), "8 / 2 ranks")
    columns = {ranks: {m.method: m for m in run_ranks(ranks)} for ranks in RANKS}
    for method in METHODS:
        row = [columns[ranks][method] for ranks in RANKS]
        cells = [
            f"{m.counted / m.ranks / 1e3:,.1f} kB ({m.interface / m.counted - 1:+.2%})" for m in row
        ]
        growth = (row[-1].counted / row[-1].ranks) / (row[0].counted / row[0].ranks)
        table.add_row(method, *cells, f"{growth:.2f}x")
    console = Console(width=120)
    console.print("Bytes that a rank sends per step as counted, and how far the interface differs")
    console.print(table)
    results = [asdict(m) for column in columns.values() for m in column.values()]
    output = Path("benchmarks/results/bytes.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    run_as_rank(lambda: map(measure, METHODS)) if "--rank" in sys.argv else main()
