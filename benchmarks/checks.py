"""What agreement costs: the share of a step that goes into frames, flags and hashes.

python -m benchmarks.checks           (make bench-checks)

Two ranks train ResNet-18 for CIFAR-100 (11,220,132 parameters) over loopback; their parameters are
compared as often as by default. `check_s` is the time of all lanes, so the share is what they would
cost if nothing of them overlapped.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from statistics import median

import torch

from benchmarks.ranks import measured_on, run_as_rank
from benchmarks.report import Grid, at_most, publish, target_grid
from benchmarks.training import Trainer, image_trainer
from experiments.models.resnet import cifar100

METHODS = ["dense", "quantize:4", "low_rank:4"]
IMAGE = (3, 32, 32)
BATCH = 32  # as in the task resnet18
WARM_UP_STEPS = 2
STEPS = 10
DRIFT_CHECK_EVERY = 100
TARGET = 0.02


@dataclass
class Cost:
    """Of rank 0, in seconds: a step, its frames, and one hash of all parameters."""

    method: str
    step_s: float
    frame_s: float
    hash_s: float

    @property
    def check_s(self) -> float:
        return self.frame_s + self.hash_s / DRIFT_CHECK_EVERY

    @property
    def share(self) -> float:
        return self.check_s / self.step_s


def measure(method: str) -> Cost:
    """Collective."""
    torch.manual_seed(0)
    model = cifar100()
    trainer = image_trainer(model, IMAGE, method, batch=BATCH, drift_check_every=DRIFT_CHECK_EVERY)
    hash_s = check_seconds(trainer)
    trainer.step()  # the first step compares parameters
    hash_s = check_seconds(trainer) - hash_s
    trainer.seconds(WARM_UP_STEPS)
    before = check_seconds(trainer)
    seconds = [trainer.seconds(1) for _ in range(STEPS)]
    frame_s = (check_seconds(trainer) - before) / STEPS
    return Cost(method, median(seconds), frame_s, max(0.0, hash_s - frame_s))


def check_seconds(trainer: Trainer) -> float:
    return trainer.compression.stats()["check_s"]


def tables(data: list[dict]) -> list[Grid]:
    results = [Cost(**row) for row in data]
    columns = "method", "step", "frames and flags", "hash of all, every 100 steps", "share"
    rows = [
        (
            cost.method,
            f"{1e3 * cost.step_s:,.0f} ms",
            f"{1e3 * cost.frame_s:.2f} ms",
            f"{1e3 * cost.hash_s:.2f} ms",
            f"{cost.share:.2%}",
        )
        for cost in results
    ]
    target = at_most("largest share of a step", max(cost.share for cost in results), TARGET)
    return [Grid(columns, rows), target_grid([target])]


def main() -> None:
    results = measured_on(2, "benchmarks.checks", Cost)
    publish("checks", [asdict(cost) for cost in results], tables)


if __name__ == "__main__":
    run_as_rank(lambda: map(measure, METHODS)) if "--rank" in sys.argv else main()
