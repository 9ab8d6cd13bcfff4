"""How many fewer bytes a plan sends than its uniform reference, at no more error, on ResNet-18.

python -m benchmarks.plans           (make bench-plans)

ResNet-18 of width 64 trains on Fashion-MNIST of half size under PowerSGD with error feedback, in
one process; before some steps its gradients are recorded as the engine collects them for a plan:
the mean of ten, residual included. `lgreco plan` then makes the plans.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.nn import functional

import lgreco
from benchmarks.report import Grid, at_least, publish, target_grid
from experiments.common.images import load_images, shrunk
from experiments.models.resnet import ResNet18

RECORDED_BEFORE = (40, 80, 120)
BATCH = 16
WINDOW = 10
CANDIDATES = {
    "ranks 2-8": [f"low_rank:{rank}" for rank in range(2, 9)],
    "ranks 1-16": [f"low_rank:{rank}" for rank in range(1, 17)],
    "2-8 bits": [f"quantize:{bits}" for bits in range(2, 9)],
}
REFERENCES = {"ranks 2-8": "low_rank:4", "ranks 1-16": "low_rank:4", "2-8 bits": "quantize:4"}
WANTED = {"ranks 2-8": 1.4, "ranks 1-16": 1.5}


@dataclass
class Gain:
    """Of a plan over its uniform reference; payload bytes of the whole model."""

    candidates: str
    step: int
    reference_bytes: float
    plan_bytes: float
    error_of_budget: float
    gap: float

    @property
    def fewer(self) -> float:
        return self.reference_bytes / self.plan_bytes


def record(folder: Path) -> dict[int, Path]:
    """Files of gradients by step."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
    images = shrunk(load_images(), 2)
    model = ResNet18(images.classes, in_channels=1, width=64)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    every = RECORDED_BEFORE[0]
    policy = lgreco.LGreCo(levels=[lgreco.PowerSGD(4)], every=every, start=every, window=WINDOW)
    aggregator = lgreco.Aggregator(shapes, lgreco.PowerSGD(4), policy)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    files = {}
    for step in range(RECORDED_BEFORE[-1]):
        picked = torch.randint(0, len(images.train_y), (BATCH,))
        x, y = images.normalised(images.train_x[picked]), images.train_y[picked]
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        aggregator.average_({name: p.grad for name, p in model.named_parameters()})
        optimizer.step()
        planned_at = step + 2
        if planned_at not in RECORDED_BEFORE:
            continue
        layers = aggregator.state_dict()["layers"]  # their windows are full, the plan not yet made
        gradients = {name: p.grad.numpy() for name, p in model.named_parameters()}
        for name, layer in layers.items():
            if layer["window_steps"]:  # the others travel dense
                gradients[name] = (layer["window"] / layer["window_steps"]).numpy()
        files[planned_at] = folder / f"{planned_at}.npz"
        np.savez(files[planned_at], **gradients)
    dist.destroy_process_group()
    return files


def plan(gradients: Path, candidates: str) -> dict:
    command = [str(Path(sys.executable).with_name("lgreco")), "plan", str(gradients), "--json"]
    command += ["--reference", REFERENCES[candidates]]
    for level in CANDIDATES[candidates]:
        command += ["--level", level]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def main() -> None:
    gains = []
    with tempfile.TemporaryDirectory() as folder:
        for step, gradients in record(Path(folder)).items():
            for candidates in CANDIDATES:
                made = plan(gradients, candidates)
                gap = made["bytes"] / made["lower_bound"] - 1
                share = made["error"] / made["budget"]
                bytes_ = made["reference_bytes"], made["bytes"]
                gains.append(Gain(candidates, step, *bytes_, share, gap))
    publish("plans", [asdict(gain) for gain in gains], tables)


def tables(data: list[dict]) -> list[Grid]:
    gains = [Gain(**row) for row in data]
    columns = "candidates", "before step", "uniform", "plan", "fewer", "error of budget", "gap"
    rows, targets = [], []
    for candidates in dict.fromkeys(gain.candidates for gain in gains):
        of_candidates = [gain for gain in gains if gain.candidates == candidates]
        rows += [
            (
                candidates,
                str(gain.step),
                f"{gain.reference_bytes / 1e3:,.1f} kB",
                f"{gain.plan_bytes / 1e3:,.1f} kB",
                f"{gain.fewer:.2f}x",
                f"{gain.error_of_budget:.2%}",
                f"{gain.gap:.3%}",
            )
            for gain in of_candidates
        ]
        if candidates in WANTED:
            least = min(gain.fewer for gain in of_candidates)
            targets.append(at_least(f"{candidates}: least gain", least, WANTED[candidates]))
    return [Grid(columns, rows, labels=2), target_grid(targets)]


if __name__ == "__main__":
    main()
