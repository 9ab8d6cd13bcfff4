"""Models with random batches, for the benchmarks that compare whole training steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiments.models.resnet import cifar100

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


class Transformer(nn.Module):
    """Causal, with a head of its own. Input: (batch, tokens). Output: (batch * tokens, logits)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Parameter(torch.zeros(TOKENS, WIDTH))
        block = nn.TransformerEncoderLayer(
            WIDTH, nhead=4, dim_feedforward=4 * WIDTH, dropout=0.0, batch_first=True
        )
        self.blocks = nn.TransformerEncoder(block, LAYERS, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, VOCABULARY)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(TOKENS))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.positions
        return self.head(self.blocks(x, mask=self.mask, is_causal=True)).flatten(0, 1)


def _images(samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    images = torch.randn(samples, 3, 32, 32, generator=generator)
    return images, torch.randint(0, 100, (samples,), generator=generator)


def _text(samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(0, VOCABULARY, (samples, TOKENS + 1), generator=generator)
    return tokens[:, :-1], tokens[:, 1:].flatten()


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("ResNet-18", cifar100, 6, _images),
        Workload("transformer", Transformer, 4, _text),
    )
}
