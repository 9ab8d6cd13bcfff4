"""The demo's runs, longer and over several seeds: accuracy of each as a table for a page.

python -m experiments.resnet18.seeds --seeds 3 --steps 3000
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Annotated

import typer

from experiments.resnet18.demo import FULL, RUNS, Run, start
from lgreco.report import Summary, summaries
from lgreco.run_log import read_run_log


def finished(run: Run, seed: int, steps: int, output: Path) -> Summary:
    """The run's figures; trains it first unless its log is there and complete."""
    log = output / f"{run.name.replace(' ', '-').lower()}-seed-{seed}.jsonl"
    if not (log.exists() and "end" in read_run_log(log)):
        process = start(run, log, {**FULL, "steps": steps, "seed": seed})
        if process.wait() != 0:
            raise SystemExit(log.with_suffix(".txt").read_text())
    return summaries([read_run_log(log)])[0]


def main(
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    steps: Annotated[int, typer.Option(min=1)] = 3000,
    output: Annotated[Path, typer.Option(help="Folder for the logs.")] = Path("runs/seeds"),
) -> None:
    """Train every run of the demo with every seed; print one row per run."""
    output.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[Summary]] = {run.name: [] for run in RUNS}
    for seed in range(seeds):
        for run in RUNS:
            result = finished(run, seed, steps, output)
            results[run.name].append(result)
            print(f"seed {seed}, {run.name}: {result.accuracy:.2f} %", flush=True)
    print(
        "\n| run | " + " | ".join(f"seed {seed}" for seed in range(seeds)) + " | mean | kB/step |"
    )
    print("|---|" + "--:|" * (seeds + 2))
    for name, rows in results.items():
        cells = [f"{row.accuracy:.2f}" for row in rows]
        cells.append(f"{mean(row.accuracy for row in rows):.2f}")
        cells.append(f"{mean(row.counted for row in rows) / 1e3:,.1f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    typer.run(main)
