"""Counted bytes against the network interface's counter, per method, on 2, 4 and 8 ranks.

python -m benchmarks.bytes            (make bench-bytes; needs user namespaces)

Every rank averages gradients of ResNet-18 for CIFAR-100 (11,220,132 elements). The interface's
counter is that of the loopback in a network namespace of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
import torch.distributed as dist

import lgreco
from benchmarks.ranks import measured_on, run_as_rank
from benchmarks.report import Grid, at_most, publish, target_grid
from experiments.models.resnet import cifar100
from tools.loopback import loopback_bytes
from tools.namespaces import has_private_loopback, on_private_loopback

METHODS = [
    "dense", "cast:bf16", "quantize:8", "quantize:4", "quantize:2", "topk:0.01", "topk:0.001",
    "low_rank:4", "low_rank:4:factors=bf16",
]  # fmt: skip
RANKS = (2, 4, 8)
STEPS = 3
LARGEST_DIFFERENCE = 0.03


@dataclass
class Measurement:
    """Bytes that all ranks together sent in one step."""

    ranks: int
    method: str
    counted: float
    interface: float
    messages: float

    @property
    def difference(self) -> float:
        """Of the interface's counter from ours, as a share."""
        return self.interface / self.counted - 1


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


def tables(data: list[dict]) -> list[Grid]:
    results = [Measurement(**row) for row in data]
    ranks = list(dict.fromkeys(m.ranks for m in results))
    rows = []
    for method in dict.fromkeys(m.method for m in results):
        row = [m for m in results if m.method == method]
        cells = [f"{m.counted / m.ranks / 1e3:,.1f} kB ({m.difference:+.2%})" for m in row]
        growth = (row[-1].counted / row[-1].ranks) / (row[0].counted / row[0].ranks)
        rows.append((method, *cells, f"{growth:.2f}x"))
    columns = ("method", *(f"{count} ranks" for count in ranks), f"{ranks[-1]} / {ranks[0]} ranks")
    worst = max(abs(m.difference) for m in results)
    target = at_most("counted bytes differ from the interface's by", worst, LARGEST_DIFFERENCE)
    return [Grid(columns, rows), target_grid([target])]


def main() -> None:
    if not has_private_loopback():
        sys.exit("This needs iproute2 and a system where user namespaces may be made.")
    results = [
        asdict(measurement)
        for ranks in RANKS
        for measurement in measured_on(
            ranks, "benchmarks.bytes", Measurement, around=on_private_loopback
        )
    ]
    publish("bytes", results, tables)


if __name__ == "__main__":
    run_as_rank(lambda: map(measure, METHODS)) if "--rank" in sys.argv else main()
