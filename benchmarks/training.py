"""Steps of a ResNet-18 under DDP, for the benchmarks that time them."""

from __future__ import annotations

import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco


class Trainer:
    """One rank's model with its compression; inputs are random."""

    def __init__(
        self, model: nn.Module, image: tuple[int, int, int], method: str, **settings: object
    ):
        """`settings`: bucket_mb, batch, and those of `lgreco.compress`."""
        bucket_mb, batch = settings.pop("bucket_mb", 25), settings.pop("batch", 8)
        self.ddp = DistributedDataParallel(
            model, bucket_cap_mb=bucket_mb, forward_sync_buffers=False
        )
        self.compression = lgreco.compress(self.ddp, lgreco.method(method), **settings)
        self.optimizer = torch.optim.SGD(self.ddp.parameters(), lr=0.01)
        generator = torch.Generator().manual_seed(dist.get_rank())
        self.x = torch.randn(batch, *image, generator=generator)
        self.y = torch.randint(0, 10, (batch,), generator=generator)

    def step(self) -> None:
        self.optimizer.zero_grad()
        functional.cross_entropy(self.ddp(self.x), self.y).backward()
        self.optimizer.step()

    def seconds(self, steps: int) -> float:
        """A step's, from when all ranks are ready to when all have ended. Collective."""
        dist.barrier()
        begin = time.perf_counter()
        for _ in range(steps):
            self.step()
        dist.barrier()
        return (time.perf_counter() - begin) / steps
