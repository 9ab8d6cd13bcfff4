"""Steps under DDP on one rank, for the benchmarks that time them."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco


@dataclass
class Trainer:
    """One rank's model; `batch` is (inputs, classes), the same in every step."""

    ddp: DistributedDataParallel
    batch: tuple[Tensor, Tensor]
    compression: lgreco.Compression | None = None
    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.SGD(self.ddp.parameters(), lr=self.learning_rate)

    def step(self) -> None:
        inputs, classes = self.batch
        self.optimizer.zero_grad()
        functional.cross_entropy(self.ddp(inputs).flatten(0, -2), classes.flatten()).backward()
        self.optimizer.step()

    def seconds(self, steps: int = 1) -> float:
        """A step's, from when all ranks are ready to when all have ended. Collective."""
        dist.barrier()
        begin = time.perf_counter()
        for _ in range(steps):
            self.step()
        dist.barrier()
        return (time.perf_counter() - begin) / steps


def image_trainer(
    model: nn.Module,
    image: tuple[int, int, int],
    method: str,
    *,
    batch: int,
    bucket_mb: int = 25,
    **settings: object,
) -> Trainer:
    """Of random images; `settings` are those of `lgreco.compress`."""
    ddp = DistributedDataParallel(model, bucket_cap_mb=bucket_mb, forward_sync_buffers=False)
    compression = lgreco.compress(ddp, lgreco.method(method), **settings)
    generator = torch.Generator().manual_seed(dist.get_rank())
    images = torch.randn(batch, *image, generator=generator)
    return Trainer(ddp, (images, torch.randint(0, 10, (batch,), generator=generator)), compression)
