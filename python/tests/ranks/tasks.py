"""Two steps of every task of the experiments; rank 0 prints what it made of each."""

from __future__ import annotations

import gc
import math
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[3]))  # for `experiments`

import lgreco
from experiments.common.training import Training, train
from experiments.tasks import TASKS
from tools.process_group import gloo_group

STEPS = 2
SAMPLES = 20


def state(model: nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def parameters(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def check(name: str) -> None:
    task = TASKS[name](None)
    assert task.name == name
    task.steps, task.batch = STEPS, 2
    training = Training(task, 0, lgreco.PowerSGD(4))
    before = state(training.ddp.module)
    training.compute_seconds()
    training.evaluate(SAMPLES)
    assert all(map(torch.equal, before, state(training.ddp.module))), "a trial changed the model"

    start = parameters(training.ddp)
    result = train(training, None, name, {}, test_samples=SAMPLES)
    assert result.steps == STEPS and result.stats["bytes_sent"] == result.bytes_sent > 0
    assert math.isfinite(result.loss) and 0 <= result.accuracy <= 100
    weights = parameters(training.ddp)
    assert not torch.equal(weights, start), "nothing was learnt"
    everybody = [torch.empty_like(weights) for _ in range(training.ranks)]
    dist.all_gather(everybody, weights)
    assert all(torch.equal(weights, other) for other in everybody), "the ranks differ"
    if dist.get_rank() == 0:
        print(f"{name}: {task.metric} of {task.data}")


with gloo_group():
    for task_name in TASKS:
        check(task_name)
        gc.collect()
