"""The next byte of a text, by a small transformer trained with AdamW."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.common.task import Batch, Metric, prediction_sums, warm_up_and_cosine
from experiments.common.text import VOCABULARY, Text
from experiments.models.transformer import Transformer

EVALUATED_AT_ONCE = 64
TEST_WINDOWS = 512  # at equal distances


@dataclass
class TextTask:
    """A Task whose samples are windows of `context` bytes."""

    name: str
    text: Text
    steps: int
    batch: int
    width: int = 64
    context: int = 64
    metric: Metric = "perplexity"

    @property
    def data(self) -> str:
        return self.text.name

    def model(self) -> nn.Module:
        return Transformer(VOCABULARY, self.context, self.width, layers=2)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, 4e-3, betas=(0.9, 0.98), weight_decay=0.01)

    def rate(self, step: int) -> float:
        return warm_up_and_cosine(step, self.steps)

    def batches(self, seed: int, rank: int, ranks: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(1000 * seed + rank)
        starts = len(self.text.train) - self.context
        while True:
            chosen = torch.randint(0, starts, (self.batch,), generator=generator)
            yield self._windows(self.text.train, chosen)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())

    def test_sums(self, model: nn.Module, rank: int, ranks: int, most: int | None) -> Tensor:
        sums = torch.zeros(3, dtype=torch.float64)
        stride = (len(self.text.valid) - self.context - 1) // TEST_WINDOWS
        mine = (stride * torch.arange(TEST_WINDOWS))[:most][rank::ranks]
        for chosen in mine.split(EVALUATED_AT_ONCE):
            x, y = self._windows(self.text.valid, chosen)
            sums += prediction_sums(model(x).flatten(0, 1), y.flatten())
        return sums

    def _windows(self, data: Tensor, starts: Tensor) -> Batch:
        chosen = data[starts[:, None] + torch.arange(self.context + 1)].long()
        return chosen[:, :-1], chosen[:, 1:]
