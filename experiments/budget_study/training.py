"""One rank's side of the runs: recording a window, and training under a fixed plan."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

import lgreco
from experiments.budget_study.tasks import Task
from experiments.budget_study.window import Window

WINDOW_STEPS = 10
RECORDED_FROM = 0.15  # share of a run


@dataclass(frozen=True)
class Result:
    """How a run ended; `loss` and `accuracy` (percent) are those of the test data."""

    accuracy: float
    loss: float
    training_loss: float
    bytes_per_step: float
    seconds: float


class Training:
    """A model with its optimiser, schedule and data."""

    def __init__(self, task: Task, seed: int) -> None:
        self.task = task
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        torch.manual_seed(seed)
        self.model = task.model()
        self.optimizer = task.optimizer(self.model.parameters())
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, task.rate)
        self.data = task.batches(seed, self.rank, self.ranks)

    def backward(self, model: torch.nn.Module) -> float:
        self.optimizer.zero_grad()
        loss = self.task.loss(model, next(self.data))
        loss.backward()
        return loss.item()

    def update(self) -> None:
        self.optimizer.step()
        self.schedule.step()

    def evaluate(self) -> tuple[float, float]:
        """Accuracy in percent, and loss."""
        self.model.eval()
        sums = self.task.test_sums(self.model, self.rank, self.ranks)
        self.model.train()
        dist.all_reduce(sums)
        return 100 * (sums[0] / sums[2]).item(), (sums[1] / sums[2]).item()


def record_window(task: Task, seed: int) -> Window:
    """Train dense for a while; all workers' gradients of the next steps, on every rank."""
    training = Training(task, seed)
    steps: list[list[list[np.ndarray]]] = []
    first = round(RECORDED_FROM * task.steps)
    for step in range(first + WINDOW_STEPS):
        training.backward(training.model)
        gradients = [parameter.grad for parameter in training.model.parameters()]
        workers = [_gathered(gradient) for gradient in gradients]
        if step >= first:
            steps.append([[one.numpy().copy() for one in layer] for layer in workers])
        for gradient, layer in zip(gradients, workers, strict=True):
            gradient.copy_(torch.stack(layer).mean(0))
        training.update()
    names = [name for name, _ in training.model.named_parameters()]
    return Window(
        {name: np.stack([step[layer] for step in steps]) for layer, name in enumerate(names)}
    )


def _gathered(gradient: Tensor) -> list[Tensor]:
    mine = gradient.contiguous()
    workers = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(workers, mine)
    return workers


def train(task: Task, seed: int, plan: Mapping[str, lgreco.Method]) -> Result:
    """A whole run in which every layer keeps its level of `plan`."""
    training = Training(task, seed)
    ddp = DistributedDataParallel(training.model, forward_sync_buffers=False)
    compression = lgreco.compress(
        ddp, lgreco.Dense(), lgreco.Fixed(plan), seed=seed, lanes=1, threads=1
    )
    begin = time.perf_counter()
    losses = []
    for _ in range(task.steps):
        losses.append(training.backward(ddp))
        training.update()
        if not math.isfinite(losses[-1]):
            break
    sent = compression.stats()["bytes_sent"] / len(losses)
    seconds = time.perf_counter() - begin
    accuracy, loss = training.evaluate()
    last = losses[-max(1, task.steps // 10) :]
    del compression, ddp
    gc.collect()  # PyTorch may abort when a DDP model outlives its process group
    return Result(accuracy, loss, sum(last) / len(last), sent, seconds)
