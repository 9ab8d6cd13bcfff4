"""The network between the ranks, timed over Gloo, which compressed sums take."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist

from lgreco.advise.advice import NetworkTiming
from lgreco.advise.timing import median_seconds

_SIZES = (2**16, 2**19, 2**22, 2**24)  # bytes that a rank contributes; from small to large
_LONG_ENOUGH_SECONDS = 0.05
_SMALL_REPETITIONS = 15
_LARGE_REPETITIONS = 3


def time_network(group: dist.ProcessGroup) -> NetworkTiming:
    """Medians over small and large exchanges, in which each rank sends a message to each other as
    compressed sums do. `group`: of Gloo. Collective; equal on all ranks."""
    latency = _median_seconds(group, 8, _SMALL_REPETITIONS)
    return NetworkTiming(_bandwidth(group, latency), latency)


def _bandwidth(group: dist.ProcessGroup, latency: float) -> float:
    """Of the first size that takes long enough to be timed well, or the largest."""
    for size in _SIZES:
        seconds = _median_seconds(group, size // group.size(), _LARGE_REPETITIONS)
        if seconds > _LONG_ENOUGH_SECONDS:
            break
    sent = (group.size() - 1) * (size // group.size())
    return sent / max(seconds - latency, 0.1 * seconds)


def _median_seconds(group: dist.ProcessGroup, message_bytes: int, repetitions: int) -> float:
    return slowest(group, median_seconds(_exchange(group, message_bytes), repetitions))[0]


def slowest(group: dist.ProcessGroup, *seconds: float) -> list[float]:
    """Of the ranks, for each figure. `group`: of Gloo. Collective."""
    tensor = torch.tensor(seconds, dtype=torch.float64, device="cpu")
    options = dist.AllreduceOptions()
    options.reduceOp = dist.ReduceOp(dist.ReduceOp.MAX)
    group.allreduce([tensor], options).wait()
    return tensor.tolist()


def _exchange(group: dist.ProcessGroup, message_bytes: int) -> Callable[[], None]:
    mine = torch.zeros(message_bytes, dtype=torch.uint8, device="cpu")
    peers = [rank for rank in range(group.size()) if rank != group.rank()]
    theirs = [torch.empty_like(mine) for _ in peers]

    def run() -> None:
        messages = [group.recv([t], peer, 0) for t, peer in zip(theirs, peers, strict=True)]
        messages += [group.send([mine], peer, 0) for peer in peers]
        for message in messages:
            message.wait()

    return run
