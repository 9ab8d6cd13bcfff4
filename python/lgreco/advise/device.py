"""The clock of the device that the model is on, and what it takes to get gradients off it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from lgreco.advise.timing import median_seconds

if TYPE_CHECKING:
    from torch._C._distributed_c10d import ProcessGroup

_REPETITIONS = 5


class DeviceClock:
    """Of moments in what a device computes. On the CPU that is the host's clock; an accelerator is
    behind its host, and only its own events tell."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._is_host = device.type == "cpu"

    @property
    def devices(self) -> list[int | str | torch.device]:
        """Those on which a torch Future would have to wait."""
        return [] if self._is_host else [self.device]

    def now(self) -> Any:
        """When what was queued up to here will have been computed."""
        if self._is_host:
            return time.perf_counter()
        event = torch.Event(self.device, enable_timing=True)
        event.record(torch.accelerator.current_stream(self.device))
        return event

    def seconds(self, first: Any, last: Any) -> float:
        """Between two moments that have passed."""
        return float(last - first if self._is_host else first.elapsed_time(last) / 1e3)

    def wait(self) -> None:
        """Until everything that was queued is computed."""
        if not self._is_host:
            torch.accelerator.synchronize(self.device)


def seconds_to_copy(tensors: Sequence[torch.Tensor], clock: DeviceClock) -> float:
    """Of copying them all to the host's memory and back, as compression does. 0 on the CPU."""
    if clock.device.type == "cpu":
        return 0.0
    hosts = [torch.empty_like(tensor, device="cpu").pin_memory() for tensor in tensors]

    def copy() -> None:
        for host, tensor in zip(hosts, tensors, strict=True):
            host.copy_(tensor, non_blocking=True)
        for host, tensor in zip(hosts, tensors, strict=True):
            tensor.copy_(host, non_blocking=True)
        clock.wait()

    return median_seconds(copy, _REPETITIONS)


def ranks_of_node(group: ProcessGroup) -> int:
    """As torchrun tells; 1 on a single node, whose ranks may stand for nodes."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return local if group.size() > local and group.size() % local == 0 else 1


def seconds_in_node(
    gradient: torch.Tensor, group: ProcessGroup, ranks: int, clock: DeviceClock
) -> float:
    """Of summing a gradient over the ranks of a node and spreading the average. Collective."""
    if ranks == 1:
        return 0.0
    members = dist.get_process_group_ranks(group)
    first = group.rank() - group.rank() % ranks
    node = dist.new_group(members[first : first + ranks], use_local_synchronization=True)

    def all_reduce() -> None:
        dist.all_reduce(gradient, group=node)
        clock.wait()

    return median_seconds(all_reduce, _REPETITIONS)
