"""What every framework's test trains: a small network on the labels of another one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import lgreco

LEVEL = "low_rank:2:min_ratio=1"
POLICY = lgreco.LGreCo(every=4, start=4, window=2)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(32, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 10))


def examples(seed: int = 0, count: int = 96) -> TensorDataset:
    """The same ones for each seed, in another order."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(count, 32, generator=generator)
    y = network(seed=100)(x).argmax(dim=1)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x[order], y[order])


def items(seed: int = 0) -> list[dict[str, Tensor]]:
    """The same, as Transformers wants them."""
    tensors = examples(seed).tensors
    return [{"x": x, "labels": y} for x, y in zip(*tensors, strict=True)]


class Classifier(nn.Module):
    """The network, as Transformers wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.network(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


@torch.no_grad()
def loss_of(model: nn.Module) -> float:
    """On all examples, in fp32."""
    x, y = examples().tensors
    return float(nn.functional.cross_entropy(model(x), y))


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
