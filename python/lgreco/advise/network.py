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
    """Medians over small and large all_gather and all_to_all. Collective; equal on all ranks."""
    collectives = (_all_gather, _all_to_all)
    latency = statistics.mean(
        _median_seconds(group, collective, 8 * group.size(), _SMALL_REPETITIONS)
        for collective in collectives
    )
    bandwidths = [_bandwidth(group, collective, latency) for collective in collectives]
    return NetworkTiming(statistics.mean(bandwidths), latency)


def _bandwidth(group: dist.ProcessGroup, collective: Callable, latency: float) -> float:
    """Of the first size that takes long enough to be timed well, or the largest."""
    for size in _SIZES:
        seconds = _median_seconds(group, collective, size, _LARGE_REPETITIONS)
        if seconds > _LONG_ENOUGH_SECONDS:
            break
    sent = collective(group, size)[1]
    return sent / max(seconds - latency, 0.1 * seconds)


def _median_seconds(
    group: dist.ProcessGroup, collective: Callable, size: int, repetitions: int
) -> float:
    run, _ = collective(group, size)
    run()
    seconds = []
    for _ in range(repetitions):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    slowest = torch.tensor([statistics.median(seconds)], dtype=torch.float64)
    dist.all_reduce(slowest, dist.ReduceOp.MAX, group)
    return slowest.item()


def _all_gather(group: dist.ProcessGroup, size: int) -> tuple[Callable[[], None], int]:
    """The collective, and the bytes that a rank sends in it."""
    mine = torch.zeros(size // 8, dtype=torch.float64)
    all_ranks = [torch.empty_like(mine) for _ in range(group.size())]
    sent = (group.size() - 1) * 8 * mine.numel()
    return lambda: dist.all_gather(all_ranks, mine, group), sent


def _all_to_all(group: dist.ProcessGroup, size: int) -> tuple[Callable[[], None], int]:
    piece = size // 8 // group.size()
    mine = torch.zeros(piece * group.size(), dtype=torch.float64)
    others = torch.empty_like(mine)
    sent = (group.size() - 1) * 8 * piece
    return lambda: dist.all_to_all_single(others, mine, group=group), sent
