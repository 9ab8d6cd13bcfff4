"""What is trained: a model, its data, its optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.budget_study.transformer import ByteTransformer
from experiments.common.images import Images, load_digits, load_images, shrunk
from experiments.common.text import Text, load_text
from experiments.resnet18.model import ResNet18

Batch = tuple[Tensor, Tensor]
WARM_UP_SHARE = 0.1


class Task:
    """Base of all tasks; `steps` is how long a run is."""

    name: str
    steps: int

    def model(self) -> nn.Module:
        raise NotImplementedError

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        raise NotImplementedError

    def batches(self, seed: int, rank: int, ranks: int) -> Iterator[Batch]:
        """This rank's share of the training data, again and again."""
        raise NotImplementedError

    def test_batches(self, rank: int, ranks: int) -> Iterator[Batch]:
        """This rank's share of the test data."""
        raise NotImplementedError

    def logits(self, model: nn.Module, x: Tensor) -> Tensor:
        """(predictions, classes)"""
        return model(x)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        return functional.cross_entropy(self.logits(model, x), y.flatten())

    @torch.no_grad()
    def test_sums(self, model: nn.Module, rank: int, ranks: int) -> Tensor:
        """Right predictions, summed loss and number of predictions, of this rank's share."""
        sums = torch.zeros(3, dtype=torch.float64)
        for x, y in self.test_batches(rank, ranks):
            logits, labels = self.logits(model, x), y.flatten()
            right = (logits.argmax(1) == labels).sum().item()
            loss = functional.cross_entropy(logits, labels, reduction="sum").item()
            sums += torch.tensor([right, loss, len(labels)], dtype=torch.float64)
        return sums

    def rate(self, step: int) -> float:
        """Share of the peak learning rate: a warm-up, then half a cosine."""
        progress = min(1.0, step / self.steps)
        warm_up = min(1.0, (step + 1) / (WARM_UP_SHARE * self.steps))
        return warm_up * 0.5 * (1 + math.cos(math.pi * progress))


class ImageTask(Task):
    """ResNet-10: ResNet-18 with one block a stage. SGD with momentum."""

    def __init__(self, name: str, images: Images, steps: int, width: int, batch: int) -> None:
        self.name, self.images, self.steps = name, images, steps
        self.width, self.batch = width, batch
        self.train_x = images.normalised(images.train_x)
        self.test_x = images.normalised(images.test_x)

    def model(self) -> nn.Module:
        model = ResNet18(self.images.classes, self.images.train_x.shape[1], self.width)
        model.stages = model.stages[::2]
        return model.to(memory_format=torch.channels_last)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, 0.03, momentum=0.9, weight_decay=5e-4)

    def batches(self, seed: int, rank: int, ranks: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            order = torch.randperm(len(self.train_x), generator=generator)[rank::ranks]
            for chosen in order.split(self.batch):
                if len(chosen) == self.batch:
                    yield self.train_x[chosen], self.images.train_y[chosen]

    def test_batches(self, rank: int, ranks: int) -> Iterator[Batch]:
        for chosen in torch.arange(len(self.test_x))[rank::ranks].split(500):
            yield self.test_x[chosen], self.images.test_y[chosen]


class TextTask(Task):
    """The next byte, by a small transformer trained with AdamW."""

    def __init__(self, name: str, text: Text, steps: int, width: int, batch: int) -> None:
        self.name, self.text, self.steps = name, text, steps
        self.width, self.batch, self.context = width, batch, 64
        self.test_windows = 512

    def model(self) -> nn.Module:
        return ByteTransformer(layers=2, width=self.width, context=self.context)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, 4e-3, betas=(0.9, 0.98), weight_decay=0.01)

    def logits(self, model: nn.Module, x: Tensor) -> Tensor:
        return model(x).flatten(0, 1)

    def batches(self, seed: int, rank: int, ranks: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(1000 * seed + rank)
        starts = len(self.text.train) - self.context
        while True:
            yield self._windows(
                self.text.train, torch.randint(0, starts, (self.batch,), generator=generator)
            )

    def test_batches(self, rank: int, ranks: int) -> Iterator[Batch]:
        stride = (len(self.text.valid) - self.context - 1) // self.test_windows
        starts = stride * torch.arange(self.test_windows)
        for chosen in starts[rank::ranks].split(64):
            yield self._windows(self.text.valid, chosen)

    def _windows(self, data: Tensor, starts: Tensor) -> Batch:
        chosen = data[starts[:, None] + torch.arange(self.context + 1)].long()
        return chosen[:, :-1], chosen[:, 1:]


TASKS: dict[str, Callable[[], Task]] = {
    "resnet": lambda: ImageTask("resnet", shrunk(load_images(), 2), steps=600, width=16, batch=16),
    "transformer": lambda: TextTask("transformer", load_text(), steps=600, width=64, batch=8),
    "digits": lambda: ImageTask("digits", shrunk(load_digits(), 2), steps=300, width=16, batch=16),
}
