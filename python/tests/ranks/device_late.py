"""Hooks do not wait for a device that is late; one that never comes is an error that names it, on
all ranks, in time."""

from __future__ import annotations

import os
import sys
import time
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parents[3] / "tests/fake_device"))
import fake_device

import lgreco

TIMEOUT = 3.0


def compressed(device: str, timeout: float) -> DistributedDataParallel:
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64) for _ in range(6)]
    ddp = DistributedDataParallel(nn.Sequential(*layers).to(device), bucket_cap_mb=0.01)
    lgreco.compress(ddp, lgreco.Quantize(bits=4), timeout=timeout)
    return ddp


def check_hooks_do_not_wait() -> None:
    """Nothing runs on the device until the last gradient has been computed and hooked."""
    ddp = compressed("fake:0", timeout=60)
    x = torch.randn(8, 64).to("fake:0")
    ddp(x).square().mean().backward()  # buckets are built anew after the first pass
    loss = ddp(x).square().mean()
    device = fake_device.device
    hooked = []

    def hook(gradient: torch.Tensor) -> None:
        hooked.append(device.submissions())
        if len(hooked) == 12:
            device.resume()

    for parameter in ddp.parameters():
        parameter.register_hook(hook)
    torch.fake.synchronize()
    device.hold_back()
    begin = time.perf_counter()
    loss.backward()
    assert len(hooked) == 12, "all before anything ran"
    assert time.perf_counter() - begin < 30, "a hook waited for the device until the timeout"


def check_a_device_that_hangs(rank: int) -> None:
    ddp = compressed("fake:1", timeout=TIMEOUT)
    x = torch.randn(8, 64).to("fake:1")
    loss = ddp(x).square().mean()
    torch.fake.synchronize(1)
    dist.barrier()
    if rank == 1:
        fake_device.device.hold_back()
    begin = time.perf_counter()
    try:
        loss.backward()
        raise AssertionError("no error")
    except lgreco.PeerError as error:
        assert "[rank 1" in str(error) and "fake:1" in str(error), error
    took = time.perf_counter() - begin
    assert took < TIMEOUT + 1, took
    fake_device.device.resume()


dist.init_process_group("cpu:gloo,fake:fake_collectives")
torch.set_num_threads(1)
warnings.simplefilter("ignore")
rank = dist.get_rank()
check_hooks_do_not_wait()
check_a_device_that_hangs(rank)
if rank == 0:
    print("late devices hold nobody up")
sys.stdout.flush()
dist.barrier()
os._exit(0)
