"""What measuring all levels of a model takes, on one core.

python -m benchmarks.analysis         (make bench-analysis)

Every layer of ResNet-18 for CIFAR-100 (11,220,132 parameters) at ranks 1-16, 1-8 bits, 10 densities
and bf16. Gradients are those of one step on random images, and lie one behind the other in fp32.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from experiments.resnet18.model import cifar100
from lgreco import _core

BATCH = 4
REPETITIONS = 7
TARGET_S = 1.0
OUTPUT = Path("benchmarks/results/analysis.json")


def levels_by_family() -> dict[str, list[str]]:
    levels = _core.mixed_levels("low_rank:4")
    names = ["low_rank", "quantize", "topk", "cast"]
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


def seconds(layers: list[np.ndarray], levels: list[str]) -> list[float]:
    times = []
    for _ in range(REPETITIONS):
        begin = time.perf_counter()
        for layer in layers:
            _core.analyze(layer.ravel(), list(layer.shape), levels)
        times.append(time.perf_counter() - begin)
    return times


def main() -> None:
    torch.set_num_threads(1)
    layers = gradients()
    families = levels_by_family()
    families["all at once"] = [level for levels in families.values() for level in levels]
    table = Table("family", "levels", "median", "fastest")
    results = []
    for family, levels in families.items():
        times = seconds(layers, levels)
        middle, fastest = median(times), min(times)
        results.append(
            {"family": family, "levels": len(levels), "median_s": middle, "min_s": fastest}
        )
        table.add_row(family, str(len(levels)), f"{middle:.3f} s", f"{fastest:.3f} s")
    console = Console(width=100)
    console.print(table)
    met = "met" if results[-1]["median_s"] <= TARGET_S else "NOT met"
    console.print(f"all levels of all layers in at most {TARGET_S:.1f} s on one core: {met}")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
