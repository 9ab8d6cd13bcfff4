"""Node first against flat: what a node sends, and the time of a step, on a link between two nodes.

python -m benchmarks.nodes            (make bench-nodes; needs root for two joined namespaces)

Two network namespaces are the nodes, with 2 and with 4 ranks each. Every rank gives DDP gradients
of the shapes of ResNet-18 for CIFAR-100 (11,220,132 elements) that cost next to no time to compute.
Bytes are those that a node's interface has sent.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.distributed as dist
import typer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lgreco
from benchmarks.ranks import results_in, run_as_rank
from benchmarks.report import Grid, at_most, publish, target_grid
from experiments.models.resnet import cifar100
from tools.namespaces import linked_namespaces, require_namespaces, run_on_link

METHODS = ["quantize:4", "low_rank:4", "topk:0.01"]
MEGABITS = (1000, 100)
RANKS_A_NODE = (2, 4)
STEPS = 5
WARM_UP_STEPS = 2  # connections are opened, DDP regroups its buckets
# Of one rank a node, and of flat, at most:
LARGEST_SHARE_OF_BYTES = 1.02
LARGEST_TIMES = {1000: 1.10, 100: 1.0}


@dataclass
class Measurement:
    """Of one step."""

    megabits: int | None
    ranks_a_node: int
    method: str
    node_first: bool
    bytes_of_a_node: float
    seconds: float


class GivenGradients(nn.Module):
    """Each parameter's gradient is a tensor that the rank has drawn."""

    def __init__(self, model: nn.Module, seed: int) -> None:
        super().__init__()
        self.parts = nn.ParameterList(torch.zeros(p.shape) for p in model.parameters())
        generator = torch.Generator().manual_seed(seed)
        self.drawn = [torch.randn(p.shape, generator=generator) for p in self.parts]

    def forward(self) -> torch.Tensor:
        sums = [
            _Given.apply(part, drawn) for part, drawn in zip(self.parts, self.drawn, strict=True)
        ]
        return torch.stack(sums).sum()


class _Given(torch.autograd.Function):
    @staticmethod
    def forward(ctx, parameter, gradient):  # type: ignore[no-untyped-def]
        ctx.gradient = gradient
        return torch.zeros(())

    @staticmethod
    def backward(ctx, _):  # type: ignore[no-untyped-def]
        return ctx.gradient.clone(), None


def measure(megabits: int | None, ranks_a_node: int, method: str, node: str | None) -> Measurement:
    """Collective."""
    ddp = DistributedDataParallel(GivenGradients(cifar100(), seed=dist.get_rank()))
    compression = lgreco.compress(
        ddp, lgreco.method(method), node=node, threads=1, drift_check_every=0
    )

    def steps(count: int) -> None:
        for _ in range(count):
            ddp.zero_grad()
            ddp().backward()

    steps(WARM_UP_STEPS)
    of_barriers, _ = _bytes_and_seconds(lambda: None)
    sent, seconds = _bytes_and_seconds(lambda: steps(STEPS))
    gradients = torch.cat([p.grad.flatten() for p in ddp.parameters()])
    _require_same_everywhere(gradients)
    return Measurement(
        megabits,
        ranks_a_node,
        method,
        compression.stats()["dense_bytes"] < 4 * gradients.numel() * (STEPS + WARM_UP_STEPS) * 0.9,
        (sent - of_barriers) / STEPS,
        seconds / STEPS,
    )


def _bytes_and_seconds(work: Callable[[], None]) -> tuple[int, float]:
    """What this node sends meanwhile, and between the barriers around it. Collective."""
    dist.barrier()
    bytes_before, begin = _bytes_of_this_node(), time.perf_counter()
    dist.barrier()
    work()
    dist.barrier()
    seconds = time.perf_counter() - begin
    time.sleep(0.2)  # what is in the link's queue
    return _bytes_of_this_node() - bytes_before, seconds


def _bytes_of_this_node() -> int:
    (link,) = Path("/sys/class/net").glob("veth*")
    return int((link / "statistics/tx_bytes").read_text())


def _require_same_everywhere(tensor: torch.Tensor) -> None:
    sums = tensor.view(torch.int32).sum(dtype=torch.int64).repeat(2)
    sums[1] = -sums[1]
    dist.all_reduce(sums, dist.ReduceOp.MAX)
    if sums[0] != -sums[1]:
        raise RuntimeError("the ranks have different averages")


def run_nodes(
    megabits: int | None, ranks_a_node: int, methods: list[str], nodes: list[str]
) -> list[Measurement]:
    command = [sys.executable, "-m", "benchmarks.nodes", "--rank", str(ranks_a_node)]
    command += ["--megabits", str(megabits or 0)]
    command += [f"--method={method}" for method in methods] + [f"--node={node}" for node in nodes]
    with linked_namespaces(megabits) as names:
        output = run_on_link(names, command, ranks_a_node=ranks_a_node)
    return results_in(output, Measurement)


def tables(data: list[dict]) -> list[Grid]:
    results = {
        (m.megabits, m.ranks_a_node, m.method, m.node_first): m
        for m in (Measurement(**row) for row in data)
    }
    rows, targets = [], []
    for megabits in MEGABITS:
        for ranks in RANKS_A_NODE:
            worst_bytes = worst_time = 0.0
            for method in METHODS:
                flat, first = (results[megabits, ranks, method, one] for one in (False, True))
                alone = results[None, 1, method, False].bytes_of_a_node
                worst_bytes = max(worst_bytes, first.bytes_of_a_node / alone)
                worst_time = max(worst_time, first.seconds / flat.seconds)
                rows.append(
                    (
                        f"{megabits:,} Mb/s, 2 x {ranks}",
                        method,
                        f"{alone / 1e6:.2f} MB",
                        f"{flat.bytes_of_a_node / 1e6:.2f} MB",
                        f"{first.bytes_of_a_node / 1e6:.2f} MB",
                        f"{1e3 * flat.seconds:.0f} ms",
                        f"{1e3 * first.seconds:.0f} ms",
                        f"{first.seconds / flat.seconds:.2f}",
                    )
                )
            where = f"{megabits:,} Mb/s, 2 x {ranks}:"
            targets += [
                at_most(f"{where} bytes of one rank a node", worst_bytes, LARGEST_SHARE_OF_BYTES),
                at_most(f"{where} time of flat", worst_time, LARGEST_TIMES[megabits]),
            ]
    columns = (
        "link, nodes x ranks", "method", "one rank a node sends", "flat: a node sends",
        "node first", "flat: a step", "node first", "node first / flat",
    )  # fmt: skip
    return [Grid(columns, rows, labels=2), target_grid(targets)]


def main(
    rank: Annotated[int, typer.Option(hidden=True, help="Run as one of so many a node.")] = 0,
    megabits: Annotated[int, typer.Option(hidden=True)] = 0,
    method: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
    node: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
) -> None:
    """Compare node first with flat on links of 1 Gb/s and 100 Mb/s."""
    if rank:
        run_as_rank(
            lambda: (
                measure(megabits or None, rank, one, None if kind == "flat" else kind)
                for one in method or []
                for kind in node or []
            )
        )
        return
    require_namespaces()
    results = run_nodes(None, 1, METHODS, ["flat"])
    for mb in MEGABITS:
        for ranks in RANKS_A_NODE:
            results += run_nodes(mb, ranks, METHODS, ["flat", "auto"])
    publish("nodes", [asdict(result) for result in results], tables)


if __name__ == "__main__":
    typer.run(main)
