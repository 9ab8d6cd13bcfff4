"""Classes of images, by ResNets trained with SGD and momentum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.common.images import Images
from experiments.common.task import Batch, Metric, prediction_sums, warm_up_and_cosine

EVALUATED_AT_ONCE = 500


@dataclass
class ImageTask:
    """A Task. `network` makes the model, given the number of classes and of channels; `flip`: half
    of the training images, at random, are seen in a mirror."""

    name: str
    images: Images
    network: Callable[[int, int], nn.Module]
    steps: int
    batch: int
    peak_rate: float
    flip: bool = False
    metric: Metric = "accuracy"

    @property
    def data(self) -> str:
        return self.images.name

    @cached_property
    def train_x(self) -> Tensor:
        return self.images.normalised(self.images.train_x)

    def model(self) -> nn.Module:
        model = self.network(self.images.classes, self.images.train_x.shape[1])
        return model.to(memory_format=torch.channels_last)  # a quarter faster on a CPU

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, self.peak_rate, momentum=0.9, weight_decay=5e-4)

    def rate(self, step: int) -> float:
        return warm_up_and_cosine(step, self.steps)

    def batches(self, seed: int, rank: int, ranks: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            order = torch.randperm(len(self.train_x), generator=generator)[rank::ranks]
            for chosen in order.split(self.batch):
                if len(chosen) == self.batch:
                    yield self._seen(chosen, generator), self.images.train_y[chosen]

    def _seen(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        x = self.train_x[chosen]
        if self.flip:
            mirrored = torch.rand(len(chosen), generator=generator) < 0.5
            x[mirrored] = x[mirrored].flip(3)
        return x

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        return functional.cross_entropy(model(x), y)

    def test_sums(self, model: nn.Module, rank: int, ranks: int, most: int | None) -> Tensor:
        sums = torch.zeros(3, dtype=torch.float64)
        mine = torch.arange(len(self.images.test_y))[:most][rank::ranks]
        for chosen in mine.split(EVALUATED_AT_ONCE):
            x = self.images.normalised(self.images.test_x[chosen])
            sums += prediction_sums(model(x), self.images.test_y[chosen])
        return sums
