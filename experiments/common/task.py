"""What is trained: a `Task`. The trainer, the runs and the studies know no more of a model than it.

A new one is a file in experiments/tasks and a row of TASKS there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

Batch = tuple[Tensor, Tensor]  # inputs, and the classes to predict
Metric = Literal["accuracy", "perplexity"]
WARM_UP_SHARE = 0.1


class Task(Protocol):
    """A model with its data, its optimiser and its schedule.

    All that a model carries from batch to batch (statistics, a memory) is in its buffers: trial
    steps and evaluations put them back.

    Attributes:
        name: in TASKS.
        data: what it is trained on and where that came from, for the screen.
        steps: of a run.
        batch: samples of a rank in a step.
        metric: what the task is judged by.
    """

    name: str
    steps: int
    batch: int
    metric: Metric

    @property
    def data(self) -> str: ...

    def model(self) -> nn.Module:
        """With weights drawn from PyTorch's global generator."""

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """At the peak learning rate."""

    def rate(self, step: int) -> float:
        """Share of the peak learning rate in a step, from 0."""

    def batches(self, seed: int, rank: int, ranks: int) -> Iterator[Batch]:
        """This rank's share of the training data, again and again."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean over the batch's predictions."""

    def test_sums(self, model: nn.Module, rank: int, ranks: int, most: int | None) -> Tensor:
        """float64: right predictions, summed loss and number of predictions of this rank's share of
        the first `most` test samples, or of all."""


@dataclass(frozen=True)
class Score:
    """On test data; `accuracy` in percent, `loss` the mean of a prediction."""

    accuracy: float
    loss: float

    @classmethod
    def of(cls, sums: Tensor) -> Score:
        """From `Task.test_sums`, added over the ranks."""
        right, loss, count = sums.tolist()
        return cls(100 * (right / count), loss / count)

    def shown(self, metric: Metric) -> str:
        if metric == "accuracy":
            return f"accuracy {self.accuracy:.2f} %"
        return f"perplexity {torch.tensor(self.loss).exp():.2f}"


def warm_up_and_cosine(step: int, steps: int) -> float:
    """A linear warm-up, then half a cosine."""
    warm_up = min(1.0, (step + 1) / (WARM_UP_SHARE * steps))
    return warm_up * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))


def prediction_sums(logits: Tensor, classes: Tensor) -> Tensor:
    """`Task.test_sums` of some predictions: logits (predictions, classes)."""
    right = (logits.argmax(1) == classes).sum().item()
    loss = functional.cross_entropy(logits, classes, reduction="sum").item()
    return torch.tensor([right, loss, len(classes)], dtype=torch.float64)
