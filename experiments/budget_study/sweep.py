"""Train uniform settings and mixed plans of a task; what is in the logs already is not repeated.

python -m experiments.budget_study.sweep --task resnet --seeds 3
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from experiments.budget_study.measures import MEASURES
from experiments.budget_study.settings import RATIOS, UNIFORM, Setting
from experiments.tasks import TASKS
from tools.ranks import on_loopback, torchrun


def run_job(
    task: str, seed: int, settings: list[Setting], log: Path, steps: int = 0, ranks: int = 2
) -> int:
    """One group of ranks that trains all settings; returns its exit status."""
    arguments = [log, task, str(seed), "--steps", str(steps)]
    arguments += ["--settings", json.dumps([asdict(setting) for setting in settings])]
    command = torchrun(ranks, "-m", "experiments.budget_study.job", *arguments)
    return subprocess.run(command, env=on_loopback(), check=False).returncode


def chosen_settings(levels: str, measures: str, ratios: str) -> list[Setting]:
    """From lists separated by commas. Raises typer.BadParameter on an unknown measure."""
    uniform = [Setting(level=level) for level in levels.split(",") if level]
    planned = [measure.partition("/") for measure in measures.split(",") if measure]
    for measure, _, _ in planned:
        if measure not in MEASURES:
            raise typer.BadParameter(f"'{measure}' is none of {', '.join(MEASURES)}")
    return uniform + [
        Setting(measure=measure, ratio=float(ratio), within=within)
        for ratio in ratios.split(",")
        for measure, _, within in planned
    ]


def main(
    task: Annotated[str, typer.Option(help=f"One of {', '.join(TASKS)}.")],
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    first_seed: Annotated[int, typer.Option(min=0)] = 0,
    levels: Annotated[str, typer.Option(help="Uniform settings.")] = ",".join(UNIFORM),
    measures: Annotated[
        str, typer.Option(help="Of plans; squared/topk is within top-k.")
    ] = "norm,squared,debt_bound,horizon",
    ratios: Annotated[str, typer.Option()] = ",".join(f"{ratio:g}" for ratio in RATIOS),
    steps: Annotated[int, typer.Option(min=0, help="0: the task's own.")] = 0,
    ranks: Annotated[int, typer.Option(min=1, help="Each with a batch of its own.")] = 2,
    output: Annotated[Path, typer.Option(help="Folder of the logs.")] = Path("runs/budget_study"),
) -> None:
    """Run the sweep, seed after seed."""
    if task not in TASKS:
        raise typer.BadParameter(f"'{task}' is none of {', '.join(TASKS)}")
    settings = chosen_settings(levels, measures, ratios)
    output.mkdir(parents=True, exist_ok=True)
    for seed in range(first_seed, first_seed + seeds):
        if run_job(task, seed, settings, output / f"{task}-{seed}.jsonl", steps, ranks) != 0:
            raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
