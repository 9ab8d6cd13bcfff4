"""Ranks that train until a peer dies or freezes, and tell what they saw. Run by test_faults.py."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection

import torch
import torch._dynamo  # DDP loads it in its first step; here it is loaded once for all ranks
import torch.distributed as dist
from common import BUFFERS_STAY, batch, small_model
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco.frontends.ddp


def train_until_an_error(
    rank: int, size: int, port: int, method: str, timeout: float, parent: Connection
) -> None:
    """Sends "ready" after some steps, then what ended the training: (type, message, seconds since
    the epoch, whether the parameters are those before the failed step)."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    # Without buffers to synchronise, the gradients are the only communication.
    ddp = DistributedDataParallel(small_model(), bucket_cap_mb=0.1, **BUFFERS_STAY)
    policy = lgreco.LGreCo(every=3, start=3, window=2)
    lgreco.compress(ddp, lgreco.method(method), policy, timeout=timeout, drift_check_every=2)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.01)
    for step in range(1_000_000):
        if step == 5:
            parent.send("ready")
        before = [p.detach().clone() for p in ddp.parameters()]
        x, y = batch(rank, step % 10)
        try:
            optimizer.zero_grad()
            functional.cross_entropy(ddp(x), y).backward()
        except lgreco.Error as error:
            same = all(torch.equal(a, b) for a, b in zip(before, ddp.parameters(), strict=True))
            parent.send((type(error).__name__, str(error), time.time(), same))
            os._exit(0)  # the default group is broken as well
        optimizer.step()
