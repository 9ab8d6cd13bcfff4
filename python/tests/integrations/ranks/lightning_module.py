"""The network of the task, as Lightning wants it."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from task import network
from torch import Tensor, nn


class Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def training_step(self, batch: Any, index: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.network(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
