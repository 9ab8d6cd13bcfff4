"""One training run of a task, one process per rank. Start it with torchrun:

    torchrun --standalone --nproc-per-node 2 -m experiments.run resnet18 --output run.jsonl \
        --method low_rank:4 --policy lgreco

Rank 0 writes the log (see lgreco.run_log for its lines).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch.distributed as dist
import typer

import lgreco
from experiments.common.task import Score, Task
from experiments.common.training import Training, train
from experiments.tasks import TASKS
from tools.process_group import gloo_group

EVALUATIONS = 8


def chosen_task(name: str, data: Path | None, steps: int, batch: int) -> Task:
    """Zeros: the task's own. Raises ValueError on an unknown name or unreadable data."""
    if name not in TASKS:
        raise ValueError(f"[run] there is no task {name!r}; there are {', '.join(TASKS)}")
    task = TASKS[name](data)
    task.steps, task.batch = steps or task.steps, batch or task.batch
    return task


def chosen_policy(
    name: str, low: lgreco.Method | None, high: str, planned: lgreco.LGreCo
) -> lgreco.Policy | None:
    """Raises ValueError on an unknown name, or when there is nothing to plan from."""
    if name == "uniform":
        return None
    if low is None:
        raise ValueError(f"[run] the policy {name!r} needs a method, not 'none'")
    if name == "lgreco":
        return planned
    if name in ("accordion", "accordion+lgreco"):
        then = planned if name == "accordion+lgreco" else None
        return lgreco.Accordion(low, lgreco.method(high), every=planned.every, then=then)
    raise ValueError(f"[run] there is no policy {name!r}")


def main(
    task: Annotated[str, typer.Argument(help=f"One of {', '.join(TASKS)}.")],
    output: Annotated[Path, typer.Option(help="Where rank 0 writes the run's log (JSON lines).")],
    name: Annotated[str, typer.Option(help="The run's name in tables and plots.")] = "run",
    method: Annotated[str, typer.Option(help="A level, or 'none' for plain DDP.")] = "none",
    policy: Annotated[
        str, typer.Option(help="uniform, lgreco, accordion or accordion+lgreco.")
    ] = "uniform",
    high: Annotated[str, typer.Option(help="Accordion's level outside of critical regimes.")] = "",
    levels: Annotated[str, typer.Option(help="L-GreCo's candidates: same or mixed.")] = "same",
    alpha: Annotated[float, typer.Option(help="L-GreCo's budget in references' errors.")] = 1.0,
    plan_every: Annotated[int, typer.Option(min=1, help="Steps between plans.")] = 200,
    plan_start: Annotated[int, typer.Option(min=1, help="Step of the first plan.")] = 100,
    steps: Annotated[int, typer.Option(min=0, help="0: the task's own.")] = 0,
    batch: Annotated[int, typer.Option(min=0, help="Of a rank; 0: the task's own.")] = 0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    test_samples: Annotated[int, typer.Option(min=0, help="For the last evaluation; 0: all.")] = 0,
    data: Annotated[Path | None, typer.Option(help="Folder of the data, if not the usual.")] = None,
) -> None:
    """Train a task on real data; run it under torchrun."""
    settings = {
        "method": method, "policy": policy, "high": high, "levels": levels, "alpha": alpha,
        "plan_every": plan_every, "plan_start": plan_start, "seed": seed,
    }  # fmt: skip
    with gloo_group():
        chosen = chosen_task(task, data, steps, batch)
        level = None if method == "none" else lgreco.method(method)
        planned = lgreco.LGreCo(plan_every, plan_start, levels=levels, alpha=alpha)
        result = train(
            Training(chosen, seed, level, chosen_policy(policy, level, high, planned)),
            output,
            name,
            settings,
            evaluations=EVALUATIONS,
            test_samples=test_samples or None,
        )
        if dist.get_rank() == 0:
            print(Score(result.accuracy, result.loss).shown(chosen.metric))


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)  # plain lines, that torchrun can prefix
    app.command()(main)
    app()
