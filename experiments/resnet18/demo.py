"""Train ResNet-18 four ways on two ranks, and compare: dense, uniform, and two L-GreCo runs.

python -m experiments.resnet18.demo [--quick] [--output runs/demo]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from experiments.common.runs import RANKS, Run, RunFailed, train
from experiments.tasks import TASKS, WIDTH
from lgreco.report import comparison_table, write_report
from lgreco.run_log import read_run_log

TASK = "resnet18"
RUNS = (
    Run("dense", "none"),
    Run("uniform rank 4", "low_rank:4"),
    Run("L-GreCo ranks 2-8", "low_rank:4", "lgreco"),
    Run("L-GreCo mixed", "low_rank:4", "lgreco", levels="mixed"),
)
FULL = {"steps": 1600, "plan-every": 200, "plan-start": 100}
QUICK = {"steps": 200, "plan-every": 60, "plan-start": 40, "test-samples": 2000}


def run_all(output: Path, options: dict[str, object], console: Console) -> list[Path]:
    """All runs, one after the other; returns their logs."""
    output.mkdir(parents=True, exist_ok=True)
    columns = [TextColumn("{task.description:18}"), BarColumn()]
    columns += [TextColumn("{task.completed:.0f}/{task.total:.0f} steps"), TimeElapsedColumn()]
    logs = []
    with Progress(*columns, TextColumn("{task.fields[loss]}"), console=console) as progress:
        for run in RUNS:
            log = run.log(output)
            log.unlink(missing_ok=True)
            bar = progress.add_task(run.name, total=options["steps"], loss="starting")

            def show(steps: int, loss: float, bar: TaskID = bar) -> None:
                progress.update(bar, completed=steps, loss=f"loss {loss:.2f}")

            train(TASK, run, log, options, show)
            logs.append(log)
    return logs


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Few steps, for a first look.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for logs and report.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(min=0, help="The same for all runs.")] = 0,
    data: Annotated[
        Path | None, typer.Option(help="Folder of CIFAR-10 or CIFAR-100 (binary version).")
    ] = None,
) -> None:
    """Train four ways, print the comparison, write the report."""
    console = Console()
    options: dict[str, object] = {**(QUICK if quick else FULL), "seed": seed}
    if data is not None:
        options["data"] = data
    try:
        task = TASKS[TASK](data)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    console.print(
        f"[bold]ResNet-18 (width {WIDTH}) on {task.data}[/bold], {RANKS} ranks, seed {seed}"
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
