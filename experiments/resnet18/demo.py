"""Train ResNet-18 four ways on two ranks, and compare: dense, uniform, and two L-GreCo runs.

python -m experiments.resnet18.demo [--quick] [--output runs/demo]
"""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.common.images import load_images, shrunk
from experiments.common.ranks import on_loopback, torchrun
from lgreco.report import comparison_table, write_report
from lgreco.run_log import read_run_log

RANKS = 2


@dataclass(frozen=True)
class Run:
    """A named run: a level and a policy of experiments.resnet18.train."""

    name: str
    method: str
    policy: str = "uniform"
    high: str = ""
    levels: str = "same"
    alpha: float = 1.0


RUNS = (
    Run("dense", "none"),
    Run("uniform rank 4", "low_rank:4"),
    Run("L-GreCo ranks 2-8", "low_rank:4", "lgreco"),
    Run("L-GreCo 4 bit", "quantize:4", "lgreco"),
)
# Images of half the height and width: a step takes a third of the time, and as error feedback
# delivers late, many steps show more of it than large images do.
FULL = {"steps": 1600, "width": 16, "shrink": 2, "plan-every": 200, "plan-start": 100}
QUICK = {**FULL, "steps": 200, "plan-every": 60, "plan-start": 40, "test-images": 2000}


class RunFailed(Exception):
    """A training process ended with an error; the message ends with its last lines."""


def start(run: Run, log: Path, options: dict[str, object]) -> subprocess.Popen:
    """The run's ranks, under torchrun on the loopback interface."""
    arguments = [f"--{key}={value}" for key, value in options.items()]
    command = torchrun(RANKS, "-m", "experiments.resnet18.train")
    command += [f"--name={run.name}", f"--method={run.method}", f"--policy={run.policy}"]
    command += [f"--high={run.high}", f"--levels={run.levels}", f"--alpha={run.alpha}"]
    with log.with_suffix(".txt").open("w") as screen:
        return subprocess.Popen(
            [*command, f"--output={log}", *arguments],
            stdout=screen,
            stderr=subprocess.STDOUT,
            env=on_loopback(),
        )


def follow(process: subprocess.Popen, log: Path, progress: Progress, bar: int) -> None:
    """Move the bar until the run has ended. Raises RunFailed."""
    try:
        while process.poll() is None:
            time.sleep(0.2)
            _show(log, progress, bar)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    _show(log, progress, bar)
    if process.returncode != 0:
        screen = log.with_suffix(".txt")
        lines = screen.read_text().splitlines()
        lines = [line for line in lines if line.startswith("[rank0]")] or lines
        raise RunFailed("\n".join([f"The run '{log.stem}' failed ({screen}):", *lines[-15:]]))


def _show(log: Path, progress: Progress, bar: int) -> None:
    lines = log.read_text().splitlines() if log.exists() else []
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:  # the last line may be half written
            continue
        if entry["event"] == "step":
            progress.update(bar, completed=entry["step"], loss=f"loss {entry['loss']:.2f}")
            return


def run_all(output: Path, options: dict[str, object], console: Console) -> list[Path]:
    """All runs, one after the other; returns their logs."""
    output.mkdir(parents=True, exist_ok=True)
    columns = [TextColumn("{task.description:18}"), BarColumn()]
    columns += [TextColumn("{task.completed:.0f}/{task.total:.0f} steps"), TimeElapsedColumn()]
    logs = []
    with Progress(*columns, TextColumn("{task.fields[loss]}"), console=console) as progress:
        for run in RUNS:
            log = output / (run.name.replace(" ", "-").lower() + ".jsonl")
            log.unlink(missing_ok=True)
            bar = progress.add_task(run.name, total=options["steps"], loss="starting")
            follow(start(run, log, options), log, progress, bar)
            logs.append(log)
    return logs


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Few steps, for a first look.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for logs and report.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(min=0, help="The same for all runs.")] = 0,
    data: Annotated[Path | None, typer.Option(help="Folder of CIFAR-100 (python version).")] = None,
) -> None:
    """Train four ways, print the comparison, write the report."""
    console = Console()
    options: dict[str, object] = {**(QUICK if quick else FULL), "seed": seed}
    if data is not None:
        options["data"] = data
    try:
        images = shrunk(load_images(data), FULL["shrink"])
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    console.print(
        f"[bold]ResNet-18 (width {options['width']}) on {images.name}[/bold], "
        f"{len(images.train_y):,} training images, {RANKS} ranks, seed {seed}"
    )
    try:
        logs = run_all(output, options, console)
    except RunFailed as error:
        console.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from None
    runs = [read_run_log(log) for log in logs]
    console.print()
    console.print(comparison_table(runs))
    report = write_report(runs, output / "report.html")
    console.print(f"\nReport with plots: [bold]{report}[/bold] (open it in a browser)")
    if quick:
        console.print("This was the quick run: `make demo` trains long enough to compare accuracy.")


if __name__ == "__main__":
    typer.run(main)
