"""What measuring all levels of a model takes, on one core.

python -m benchmarks.analysis         (make bench-analysis)

Every layer of ResNet-18 for CIFAR-100 (11,220,132 parameters) at ranks 1-16, 1-8 bits, 10 densities
and bf16. Gradients are those of one step on random images, and lie one behind the other in fp32.
The analysis has one thread; its CPU time is what it would take on a core of its own.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from statistics import median

import numpy as np
import torch
from torch.nn import functional

from benchmarks.report import Grid, Target, publish, target_grid
from experiments.models.resnet import cifar100
from lgreco import _core

BATCH = 4
REPETITIONS = 7
TARGET_S = 1.0


def levels_by_family() -> dict[str, list[str]]:
    levels = _core.mixed_levels("low_rank:4")
    names = ["low_rank", "quantize", "entropy", "topk", "cast"]
    return {name: [level for level in levels if level.startswith(name)] for name in names}


def gradients() -> list[np.ndarray]:
    """Views into one array, in their layers' shapes."""
    torch.manual_seed(0)
    model = cifar100()
    x, y = torch.randn(BATCH, 3, 32, 32), torch.randint(100, (BATCH,))
    functional.cross_entropy(model(x), y).backward()
    layers = [p.grad.numpy() for p in model.parameters()]
    flat = np.concatenate([layer.ravel() for layer in layers])
    views, at = [], 0
    for layer in layers:
        views.append(flat[at : at + layer.size].reshape(layer.shape))
        at += layer.size
    return views


@dataclass
class Times:
    """Medians, in seconds, for all layers."""

    family: str
    levels: int
    cpu_s: float
    wall_s: float


def measure(family: str, levels: list[str], layers: list[np.ndarray]) -> Times:
    cpu, wall = [], []
    for _ in range(REPETITIONS):
        cpu_begin, wall_begin = time.process_time(), time.perf_counter()
        for layer in layers:
            _core.analyze(layer.ravel(), list(layer.shape), levels)
        cpu.append(time.process_time() - cpu_begin)
        wall.append(time.perf_counter() - wall_begin)
    return Times(family, len(levels), median(cpu), median(wall))


def tables(data: list[dict]) -> list[Grid]:
    results = [Times(**row) for row in data]
    rows = [(t.family, str(t.levels), f"{t.cpu_s:.3f} s", f"{t.wall_s:.3f} s") for t in results]
    cpu_s = results[-1].cpu_s
    target = Target(f"all at once <= {TARGET_S:g} s of CPU", f"{cpu_s:.3f} s", cpu_s <= TARGET_S)
    return [Grid(("family", "levels", "CPU time", "wall time"), rows), target_grid([target])]


def main() -> None:
    torch.set_num_threads(1)
    layers = gradients()
    families = levels_by_family()
    families["all at once"] = [level for levels in families.values() for level in levels]
    results = [measure(family, levels, layers) for family, levels in families.items()]
    publish("analysis", [asdict(times) for times in results], tables)


if __name__ == "__main__":
    main()
