"""What was compressed and is no longer used leaves no thread and no connection behind, also when
the default group ends first."""

import gc
import os
import time

import torch
import torch.distributed as dist
from common import batch, small_model
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco


def train() -> None:
    ddp = DistributedDataParallel(small_model())
    lgreco.compress(ddp, lgreco.Quantize(bits=4))
    x, y = batch(dist.get_rank(), 0)
    functional.cross_entropy(ddp(x), y).backward()


def average() -> lgreco.Aggregator:
    aggregator = lgreco.Aggregator({"a": (64, 96)}, lgreco.Quantize(bits=4))
    aggregator.average_({"a": torch.ones(64, 96)})
    return aggregator


def threads_and_connections() -> tuple[int, int]:
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def settled(expected: tuple[int, int] | None = None) -> tuple[int, int]:
    """What is left when it is as expected, or stands still: a thread that has ended may be listed
    for a while."""
    gc.collect()
    found, since = threads_and_connections(), time.monotonic()
    while found != expected and time.monotonic() < since + 2:
        time.sleep(0.05)
        now = threads_and_connections()
        if now != found:
            found, since = now, time.monotonic()
    return found


dist.init_process_group("gloo")
torch.set_num_threads(1)
train()  # which loads what PyTorch loads once
before = settled()
for _ in range(3):
    train()
    average()
after = settled(before)
assert after == before, f"{before} before, {after} after"

alive = average()
dist.barrier()
rank = dist.get_rank()
dist.destroy_process_group()
del alive
if rank == 0:
    print("nothing left")
