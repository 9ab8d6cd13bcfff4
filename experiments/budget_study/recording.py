"""Recording a window: all workers' gradients of some steps of a dense run."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from experiments.budget_study.window import Window
from experiments.common.task import Task
from experiments.common.training import Training

WINDOW_STEPS = 10
RECORDED_FROM = 0.15  # share of a run


def record_window(task: Task, seed: int) -> Window:
    """Train dense for a while; all workers' gradients of the next steps, on every rank."""
    training = Training(task, seed)
    steps: list[list[list[np.ndarray]]] = []
    first = round(RECORDED_FROM * task.steps)
    for step in range(first + WINDOW_STEPS):
        with training.ddp.no_sync():
            training.backward()
        gradients = [parameter.grad for parameter in training.ddp.parameters()]
        workers = [_gathered(gradient) for gradient in gradients]
        if step >= first:
            steps.append([[one.numpy().copy() for one in layer] for layer in workers])
        for gradient, layer in zip(gradients, workers, strict=True):
            gradient.copy_(torch.stack(layer).mean(0))
        training.update()
    names = [name for name, _ in training.ddp.module.named_parameters()]
    return Window(
        {name: np.stack([step[layer] for step in steps]) for layer, name in enumerate(names)}
    )


def _gathered(gradient: Tensor) -> list[Tensor]:
    mine = gradient.contiguous()
    workers = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(workers, mine)
    return workers
