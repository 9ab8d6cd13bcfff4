"""What re-planning costs a run: the share of an interval, and the longest delay of a step.

python -m benchmarks.replanning           (make bench-replanning)

Two ranks train ResNet-18 for CIFAR-100 (11,220,132 parameters) over loopback, on as many cores, and
plan again and again, with fewer steps between plans than usual so that there are several. Planning
in the background takes the cores from the training, so its seconds count as if they were added to
the steps; what a step waits for planning counts as well.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from statistics import median

import torch

import lgreco
from benchmarks.ranks import measured_on, run_as_rank
from benchmarks.report import Grid, at_most, publish, target_grid
from benchmarks.training import image_trainer
from experiments.models.resnet import cifar100

IMAGE = (3, 32, 32)
BATCH = 4
EVERY = 40
PLANS = 4
USUAL_INTERVAL = 1_000
TARGET = 0.01
POLICIES = {
    "ranks 2-8": ("low_rank:4", {}),
    "ranks 1-16": ("low_rank:8", {}),
    "mixed": ("low_rank:4", {"levels": "mixed"}),
}


@dataclass
class Cost:
    """Of rank 0, in seconds, medians over the plans.

    Attributes:
        step_s: a step.
        background_s: measuring and solving, for one plan.
        waited_s: what one plan holds steps up.
        excess_s: the longest step from measuring to the plan's effect, beyond step_s.
        usual_excess_s: the longest step among as many others, beyond step_s.
        plans, failures: made, and dropped.
    """

    policy: str
    step_s: float
    background_s: float
    waited_s: float
    excess_s: float
    usual_excess_s: float
    plans: int
    failures: int

    @property
    def share(self) -> float:
        """Of an interval of 1,000 steps."""
        return (self.background_s + self.waited_s) / (USUAL_INTERVAL * self.step_s)


def measure(name: str) -> Cost:
    """Collective."""
    method, settings = POLICIES[name]
    torch.manual_seed(0)
    policy = lgreco.LGreCo(every=EVERY, start=EVERY, window=10, **settings)
    trainer = image_trainer(cifar100(), IMAGE, method, batch=BATCH, policy=policy)
    seconds = [trainer.seconds(1) for _ in range(EVERY * PLANS + 2)]
    stats = trainer.compression.stats()
    lead = EVERY // 20
    around = range(-lead, 2)  # relative to the step at which a plan takes effect
    effects = range(EVERY, EVERY * PLANS + 1, EVERY)
    at_plans = [max(seconds[effect + i] for i in around) for effect in effects]
    elsewhere = [max(seconds[effect - EVERY // 2 + i] for i in around) for effect in effects]
    step = median(seconds)
    return Cost(
        policy=name,
        step_s=step,
        background_s=stats["plan_s"] / PLANS,
        waited_s=stats["plan_wait_s"] / PLANS,
        excess_s=median(at_plans) - step,
        usual_excess_s=median(elsewhere) - step,
        plans=int(stats["plans"]),
        failures=int(stats["plan_failures"]),
    )


def tables(data: list[dict]) -> list[Grid]:
    results = [Cost(**row) for row in data]
    columns = (
        "candidates", "step", "background, a plan", "waited, a plan", "longest step at a plan",
        "longest elsewhere", "share of 1,000 steps", "made, dropped",
    )  # fmt: skip
    rows = [
        (
            cost.policy,
            f"{1e3 * cost.step_s:.0f} ms",
            f"{1e3 * cost.background_s:.0f} ms",
            f"{1e3 * cost.waited_s:.1f} ms",
            f"{1e3 * cost.excess_s:+.0f} ms",
            f"{1e3 * cost.usual_excess_s:+.0f} ms",
            f"{cost.share:.2%}",
            f"{cost.plans}, {cost.failures}",
        )
        for cost in results
    ]
    target = at_most("largest share of 1,000 steps", max(c.share for c in results), TARGET)
    return [Grid(columns, rows), target_grid([target])]


def main() -> None:
    results = measured_on(2, "benchmarks.replanning", Cost)
    publish("replanning", [asdict(cost) for cost in results], tables)


if __name__ == "__main__":
    run_as_rank(lambda: map(measure, POLICIES)) if "--rank" in sys.argv else main()
