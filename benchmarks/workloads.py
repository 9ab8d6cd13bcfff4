"""Models with random batches, for the benchmarks that compare whole training steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiments.models.resnet import cifar100
from experiments.models.transformer import Transformer

TOKENS = 64  # of a sequence
VOCABULARY = 2_000
WIDTH = 256
LAYERS = 4


@dataclass(frozen=True)
class Workload:
    """A model, and its batches of `samples` images or sequences a rank.

    `draw(samples, generator)` gives (inputs, classes).
    """

    name: str
    model: Callable[[], nn.Module]
    samples: int
    draw: Callable[[int, torch.Generator], tuple[Tensor, Tensor]]

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return self.draw(self.samples, generator)


def _transformer() -> nn.Module:
    return Transformer(VOCABULARY, TOKENS, WIDTH, LAYERS, bias=True)


def _images(samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    images = torch.randn(samples, 3, 32, 32, generator=generator)
    return images, torch.randint(0, 100, (samples,), generator=generator)


def _text(samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(0, VOCABULARY, (samples, TOKENS + 1), generator=generator)
    return tokens[:, :-1], tokens[:, 1:]


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("ResNet-18", cifar100, 6, _images),
        Workload("transformer", _transformer, 4, _text),
    )
}
