"""More ranks and more layers: bytes, time and memory of a step, and what the hook costs a layer.

python -m benchmarks.scale          (make bench-scale)

A model of vectors whose gradients are given has nearly no compute, so that a step is what DDP, the
hook and the network take. Plain DDP and compressed steps alternate. The hook's cost of a layer is
what a compressed step takes beyond plain DDP's, over the layers, on the clock and of CPU time:
vectors suit no low rank, so that with low_rank:4 all of them travel dense. Memory above DDP is what
the process holds more when a model that has made plain steps goes on with compressed ones.
"""

from __future__ import annotations

import ctypes
import gc
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import torch.distributed as dist
import typer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lgreco
from benchmarks.ranks import measured_on, run_as_rank
from benchmarks.report import publish
from benchmarks.scale_report import Scaling, Times, tables

ELEMENTS = 1_000_000
LAYERS = (1, 10, 100, 1_000)
RANKS = (2, 4, 8)
METHODS = ["low_rank:4", "quantize:4", "topk:0.01"]
STEPS = 4
WARM_UP_STEPS = 4


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


def seconds_of(ddp: DistributedDataParallel, steps: int, times: Times) -> None:
    """Collective."""
    dist.barrier()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        ddp.zero_grad()
        ddp().backward()
    dist.barrier()
    times.wall.append((time.perf_counter() - wall) / steps)
    times.cpu.append((time.process_time() - cpu) / steps)


def held_bytes() -> int:
    """Resident memory between steps, without what is free and only kept for later."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line
    )
    return 1024 * int(line.split()[1])


def sent_by_a_rank(compression: lgreco.Compression) -> torch.Tensor:
    """Bytes and messages, the mean over the ranks. Collective."""
    stats = compression.stats()
    sent = torch.tensor([stats["bytes_sent"], stats["messages_sent"]], dtype=torch.float64)
    dist.all_reduce(sent)
    return sent / dist.get_world_size()


def measure(layers: int, method: str, rounds: int) -> Scaling:
    """Collective."""
    plain = DistributedDataParallel(Vectors(layers))
    ddp = DistributedDataParallel(Vectors(layers))
    for model in (plain, ddp):
        seconds_of(model, WARM_UP_STEPS, Times())
    buckets = ddp._get_ddp_logging_data()["rebuilt_bucket_sizes"]
    before = held_bytes()
    compression = lgreco.compress(ddp, lgreco.method(method))
    seconds_of(ddp, WARM_UP_STEPS, Times())
    grown = held_bytes() - before
    sent = sent_by_a_rank(compression)
    times = Times(), Times()
    for _ in range(rounds):
        seconds_of(plain, STEPS, times[0])
        seconds_of(ddp, STEPS, times[1])
    sent_bytes, messages = ((sent_by_a_rank(compression) - sent) / (rounds * STEPS)).tolist()
    return Scaling(
        ranks=dist.get_world_size(),
        cores=os.cpu_count(),
        elements=ELEMENTS,
        layers=layers,
        method=method,
        buckets=[int(size) for size in buckets.split(",")],
        plain=times[0],
        compressed=times[1],
        sent_bytes=sent_bytes,
        messages=messages,
        memory=compression.memory(),
        grown=grown,
    )


def main(
    ranks: Annotated[list[int] | None, typer.Option(help="Repeatable.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Of plain and compressed steps.")] = 15,
    rank: Annotated[bool, typer.Option(hidden=True, help="Run as a rank.")] = False,
) -> None:
    """Time nearly empty steps with more ranks and more layers."""
    if rank:
        run_as_rank(lambda: (measure(n, m, rounds) for n in LAYERS for m in METHODS))
        return
    results = [
        asdict(scaling)
        for count in ranks or RANKS
        for scaling in measured_on(count, "benchmarks.scale", Scaling, f"--rounds={rounds}")
    ]
    publish("scale", results, tables)


if __name__ == "__main__":
    typer.run(main)
