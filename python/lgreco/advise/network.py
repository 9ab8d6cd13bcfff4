"""The network between the ranks, timed with the job's own process group."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from lgreco.advise.advice import NetworkTiming

_SIZES = (2**16, 2**19, 2**22, 2**24)  # bytes that a rank contributes; from small to large
_LONG_ENOUGH_SECONDS = 0.05
_SMALL_REPETITIONS = 15
_LARGE_REPETITIONS = 3


def time_network(group: dist.ProcessGroup) -> NetworkTiming:
    """Medians over small and large exchanges, in which each rank sends a message to each other as
    compressed sums do. Collective; equal on all ranks."""
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
    exchange = _exchange(group, message_bytes)
    exchange()
    seconds = []
    for _ in range(repetitions):
        begin = time.perf_counter()
        exchange()
        seconds.append(time.perf_counter() - begin)
    slowest = torch.tensor([statistics.median(seconds)], dtype=torch.float64, device="cpu")
    dist.all_reduce(slowest, dist.ReduceOp.MAX, group)
    return slowest.item()


def _exchange(group: dist.ProcessGroup, message_bytes: int) -> Callable[[], None]:
    mine = torch.zeros(message_bytes, dtype=torch.uint8, device="cpu")
    peers = [rank for rank in dist.get_process_group_ranks(group) if rank != dist.get_rank()]
    theirs = [torch.empty_like(mine) for _ in peers]

    def run() -> None:
        messages = [dist.irecv(t, peer, group) for t, peer in zip(theirs, peers, strict=True)]
        messages += [dist.isend(mine, peer, group) for peer in peers]
        for message in messages:
            if message is not None:  # as on a rank outside of the group
                message.wait()

    return run
