"""Models with random batches, for the benchmarks that compare whole training steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.resnet18.model import cifar100

IMAGES = 8  # of a rank's batch
TOKENS = 64  # of a sequence
SEQUENCES = 4  # of a rank's batch
VOCABULARY = 2_000
WIDTH = 256
LAYERS = 4


@dataclass(frozen=True)
class Workload:
    """A model, and its batches: `batch(generator)` gives (inputs, classes)."""

    name: str
    model: Callable[[], nn.Module]
    batch: Callable[[torch.Generator], tuple[Tensor, Tensor]]


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


def _images(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    images = torch.randn(IMAGES, 3, 32, 32, generator=generator)
    return images, torch.randint(0, 100, (IMAGES,), generator=generator)


def _text(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(0, VOCABULARY, (SEQUENCES, TOKENS + 1), generator=generator)
    return tokens[:, :-1], tokens[:, 1:].flatten()


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("ResNet-18", cifar100, _images),
        Workload("transformer", Transformer, _text),
    )
}


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    inputs, classes = batch
    return functional.cross_entropy(model(inputs), classes)
