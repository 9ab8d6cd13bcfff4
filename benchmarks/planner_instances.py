"""Instances for the planner: random ones, and tables measured on gradients of training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import lgreco
from experiments.common.images import load_images, shrunk
from experiments.common.text import VOCABULARY
from experiments.models.resnet import ResNet18
from experiments.models.transformer import Transformer

CONTEXT = 64


@dataclass(frozen=True)
class Instance:
    """Costs and errors by layer and candidate; the reference's error is the budget (for real ones
    times alpha)."""

    name: str
    costs: list[np.ndarray]
    errors: list[np.ndarray]
    budget: float
    reference: list[int] | None = None

    @property
    def size(self) -> str:
        return f"{len(self.costs)} x {max(len(row) for row in self.costs)}"

    def total(self, rows: list[np.ndarray], choice: np.ndarray) -> float:
        """In row order, as the planner adds up."""
        return float(sum(row[c] for row, c in zip(rows, choice, strict=True)))


def random_instance(seed: int, layers: int | None = None, levels: int | None = None) -> Instance:
    """60 to 500 layers and 7 to 150 candidates if not given; one of four kinds."""
    rng = np.random.default_rng(seed)
    layers = layers or int(rng.integers(60, 501))
    levels = levels or int(rng.integers(7, 151))
    kind = ("falling", "correlated", "anyhow", "seconds")[seed % 4]
    sizes = np.floor(1 + 1e5 * rng.random(layers) ** 3)
    level = np.arange(1, levels + 1)
    costs, errors = [], []
    for size in sizes:
        if kind in ("falling", "seconds"):
            decay = rng.uniform(0.2, 5) / levels
            row_costs, row_errors = size * level, np.sqrt(size) * np.exp(-decay * level)
            row_errors = row_errors * rng.uniform(0.98, 1.02, levels)
        elif kind == "correlated":
            row_costs = size + rng.integers(0, 1000, levels).astype(float)
            row_errors = row_costs.max() - row_costs + rng.uniform(0, 10, levels)
        else:
            row_costs = np.floor(1 + size * rng.random(levels))
            row_errors = size * rng.random(levels)
        costs.append(row_costs * 1e-9 * rng.random() if kind == "seconds" else row_costs)
        errors.append(row_errors)
    reference = [int(i) for i in rng.integers(0, levels, layers)]
    budget = float(sum(e[r] for e, r in zip(errors, reference, strict=True)))
    return Instance(f"{kind} {seed}", costs, errors, budget, reference)


def hard_instance(seed: int) -> Instance:
    """Costs and errors of every candidate add up to nearly the same, and costs share no unit: as
    good as subset sums, where bounds say little. No gradients look like this."""
    rng = np.random.default_rng(seed)
    layers, levels = ((60, 7), (60, 150), (200, 40), (500, 150))[seed % 4]
    errors = [rng.uniform(0.1, 10) * rng.random(levels) for _ in range(layers)]
    costs = [20 - row * (1 + 1e-6 * rng.random(levels)) for row in errors]
    return Instance(f"hard {seed}", costs, errors, float(sum(row.mean() for row in errors)))


Batches = Iterator[tuple[Tensor, Tensor]]
Gradients = dict[str, np.ndarray]


def image_batches(size: int) -> Batches:
    images = shrunk(load_images(), 2)
    while True:
        picked = torch.randint(0, len(images.train_y), (size,))
        yield images.normalised(images.train_x[picked]), images.train_y[picked]


def text_batches(size: int) -> Batches:
    """The licence: a text that stays the same, and with it the tables."""
    data = torch.frombuffer(bytearray(Path("LICENSE").read_bytes()), dtype=torch.uint8).long()
    while True:
        starts = torch.randint(0, len(data) - CONTEXT - 1, (size,)).tolist()
        windows = torch.stack([data[s : s + CONTEXT + 1] for s in starts])
        yield windows[:, :-1], windows[:, 1:]


def train(model: nn.Module, batches: Batches, snapshots: list[int]) -> list[Gradients]:
    """Gradients of the steps in `snapshots`, summed over the two steps before, too."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    recent: list[Gradients] = []
    taken = []
    for step in range(1, snapshots[-1] + 1):
        x, y = next(batches)
        optimizer.zero_grad()
        functional.cross_entropy(model(x).flatten(0, -2), y.flatten()).backward()
        recent.append({n: p.grad.numpy().copy() for n, p in model.named_parameters()})
        recent = recent[-3:]
        if step in snapshots:
            taken.append({n: sum(g[n] for g in recent) / len(recent) for n in recent[0]})
        optimizer.step()
    return taken


def together(*models: Gradients) -> Gradients:
    return {f"{m}.{name}": g for m, model in enumerate(models) for name, g in model.items()}


def ranks(first: int, last: int) -> list[lgreco.Method]:
    return [lgreco.PowerSGD(rank) for rank in range(first, last + 1)]


def bits() -> list[lgreco.Method]:
    return [lgreco.Quantize(b) for b in range(1, 9)]


def densities(count: int) -> list[lgreco.Method]:
    return [lgreco.TopK(float(f"{d:.6g}")) for d in np.geomspace(0.001, 0.3, count)]


@dataclass(frozen=True)
class Table:
    name: str
    gradients: Gradients
    levels: list[lgreco.Method]
    reference: lgreco.Method

    def instances(self, *settings: tuple[str, float]) -> Iterator[Instance]:
        """One for each pair of budget ("norm" or "squared") and alpha."""
        levels = [*self.levels, lgreco.Dense()]
        table = lgreco.cost_table(self.gradients, levels)
        reference = [levels.index(self.reference)] * len(table.names)
        for budget, alpha in settings:
            errors = table.errors**2 if budget == "squared" else table.errors
            limit = alpha * float(sum(row[r] for row, r in zip(errors, reference, strict=True)))
            name = f"{self.name}, {budget}, alpha {alpha:g}"
            yield Instance(name, list(table.costs), list(errors), limit, reference)


def real_instances() -> Iterator[Instance]:
    """Twenty, of 62 to 508 layers. The larger ones are layers of several models, or of one model
    at several steps, together: no single model here has as many."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    narrow = train(ResNet18(10, in_channels=1, width=16), image_batches(32), [5, 20, 40, 60])
    (wide,) = train(ResNet18(10, in_channels=1, width=64), image_batches(8), [5])
    transformer = partial(Transformer, VOCABULARY, CONTEXT, bias=True)
    small = train(transformer(width=64, layers=6), text_batches(16), [10, 30, 60])
    deep = train(transformer(width=128, layers=12), text_batches(8), [10, 30])
    both = together(narrow[2], deep[1])
    many = together(*narrow[:2], *small, deep[0])
    most = together(*narrow, small[1], deep[1])

    rank4, bit4 = lgreco.PowerSGD(4), lgreco.Quantize(4)
    grid = densities(40)
    mixed = [*ranks(1, 16), *bits(), *densities(30)]
    widest = [*ranks(1, 64), *bits(), *densities(77)]
    norm, squared = ("norm", 1.0), ("squared", 1.0)
    for table, settings in (
        (Table("ResNet-18/16, ranks 2-8", narrow[1], ranks(2, 8), rank4), (norm, ("norm", 0.7))),
        (Table("ResNet-18/16, 1-8 bits", narrow[3], bits(), bit4), (norm, squared)),
        (Table("ResNet-18/64, ranks 1-16", wide, ranks(1, 16), rank4), (norm, squared)),
        (Table("small transformer, densities", small[2], grid, grid[16]), (norm, squared)),
        (Table("transformer, ranks 1-16", deep[1], ranks(1, 16), rank4), (norm, ("squared", 1.5))),
        (Table("transformer, 1-8 bits", deep[0], bits(), bit4), (("norm", 1.3), squared)),
        (Table("two models, mixed", both, mixed, rank4), (norm, squared)),
        (Table("six steps, ranks 2-8", many, ranks(2, 8), rank4), (norm, squared)),
        (Table("six steps, mixed", many, mixed, bit4), (norm, ("squared", 0.8))),
        (Table("six steps, widest", most, widest, rank4), (norm, squared)),
    ):
        yield from table.instances(*settings)
