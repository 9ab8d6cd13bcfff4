"""All runs of one task and one seed, in one group of ranks. Started by sweep under torchrun."""

from __future__ import annotations

import gc
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import torch.distributed as dist
import typer

import lgreco
from experiments.budget_study.measures import MEASURES, Evidence
from experiments.budget_study.plans import payload, plan_of_ratio, uniform_plan
from experiments.budget_study.recording import record_window
from experiments.budget_study.settings import Setting, allowed, candidates
from experiments.budget_study.window import Window
from experiments.common.task import Task
from experiments.common.training import Training, train
from experiments.tasks import TASKS
from tools.process_group import gloo_group


def window_of(task: Task, seed: int, path: Path) -> Window:
    """The window in `path`; recorded first if there is none."""
    exists = [path.exists()]
    dist.broadcast_object_list(exists)
    if exists[0]:
        return Window.load(path)
    window = record_window(task, seed)
    if dist.get_rank() == 0:
        window.save(path)
    return window


def finished(log: Path) -> set[str]:
    """Names of the runs that the log holds."""
    if not log.exists():
        return set()
    return {json.loads(line)["name"] for line in log.read_text().splitlines()}


def run_all(task: Task, seed: int, settings: list[Setting], log: Path) -> None:
    """Every setting that the log lacks."""
    window = window_of(task, seed, log.with_suffix(".window.npz"))
    evidence = Evidence.of(window, candidates())
    done = [finished(log)]
    dist.broadcast_object_list(done)
    for setting in settings:
        if setting.name in done[0]:
            continue
        plan = _same_everywhere(setting, evidence)
        if plan is None:
            continue
        training = Training(task, seed, lgreco.Dense(), lgreco.Fixed(plan))
        result = train(training, None, setting.name, asdict(setting))
        del training
        gc.collect()  # its threads and connections end before the next run
        if dist.get_rank() == 0:
            entry = {
                "name": setting.name,
                **asdict(setting),
                "task": task.name,
                "seed": seed,
                "ranks": dist.get_world_size(),
                "steps": task.steps,
                "payload": payload(window.shapes, plan),
                "dense_payload": 4 * sum(g[0, 0].size for g in window.layers.values()),
                "accuracy": result.accuracy,
                "loss": result.loss,
                "bytes_per_step": result.bytes_sent / result.steps,
                "seconds": result.seconds,
                "plan": {name: str(m) for name, m in plan.items()},
            }
            with log.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            print(_line(entry), flush=True)


def _same_everywhere(setting: Setting, evidence: Evidence) -> dict[str, lgreco.Method] | None:
    """Rank 0's plan, as spellings on the way."""
    plan = [None]
    if dist.get_rank() == 0:
        found = _plan(setting, evidence)
        plan = [found and {name: str(level) for name, level in found.items()}]
    dist.broadcast_object_list(plan)
    return plan[0] and {name: lgreco.method(level) for name, level in plan[0].items()}


def _plan(setting: Setting, evidence: Evidence) -> dict[str, lgreco.Method] | None:
    if setting.level:
        return uniform_plan(evidence.window.shapes, lgreco.method(setting.level))
    harm = MEASURES[setting.measure](evidence)
    harm = np.where(allowed(setting.within), harm, np.inf)
    return plan_of_ratio(evidence.table, harm, setting.ratio)


def _line(entry: dict) -> str:
    return (
        f"{entry['task']} seed {entry['seed']} {entry['name']:22} "
        f"{entry['payload'] / 1e3:8.1f} kB {entry['dense_payload'] / entry['payload']:6.1f}x "
        f"{entry['accuracy']:6.2f} % loss {entry['loss']:.4f} {entry['seconds']:5.1f} s"
    )


def main(
    log: Path,
    task: str,
    seed: int,
    settings: Annotated[str, typer.Option(help="JSON: a list of Setting's fields.")],
    steps: Annotated[int, typer.Option(help="0: the task's own.")] = 0,
) -> None:
    """Train every setting that is not in the log yet."""
    with gloo_group():
        chosen = TASKS[task](None)
        chosen.steps = steps or chosen.steps
        run_all(chosen, seed, [Setting(**fields) for fields in json.loads(settings)], log)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
