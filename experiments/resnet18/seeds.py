"""Runs over several seeds: accuracy and bytes of each, as tables for a page.

python -m experiments.resnet18.seeds --seeds 3 --steps 2400                    the demo's runs
python -m experiments.resnet18.seeds --seeds 3 --steps 2400 --study accordion
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Annotated

import typer

from experiments.common.runs import Run, RunFailed, is_finished, train
from experiments.resnet18.demo import FULL, RUNS, TASK
from lgreco.report import Summary, summaries
from lgreco.run_log import read_run_log

ACCORDION_RUNS = (
    Run("Accordion 8-4", "low_rank:8", "accordion", high="low_rank:4"),
    Run("Accordion 8-4 + L-GreCo", "low_rank:8", "accordion+lgreco", high="low_rank:4"),
    Run(
        "Accordion 8-4 + L-GreCo mixed",
        "low_rank:8",
        "accordion+lgreco",
        high="low_rank:4",
        levels="mixed",
        alpha=0.35,
    ),
)
STUDIES = {"demo": RUNS, "accordion": ACCORDION_RUNS}


def finished(run: Run, seed: int, options: dict[str, object], output: Path) -> Summary:
    """The run's figures; trains it first unless its log is there and complete."""
    log = run.log(output, f"-seed-{seed}")
    if not is_finished(log):
        try:
            train(TASK, run, log, {**options, "seed": seed})
        except RunFailed as error:
            raise SystemExit(str(error)) from None
    return summaries([read_run_log(log)])[0]


def print_table(
    results: dict[str, list[Summary]], heading: str, cell: Callable[[Summary], float], digits: int
) -> None:
    """One row per run: the figure for each seed, and the mean."""
    seeds = len(next(iter(results.values())))
    columns = [heading, *(f"seed {seed}" for seed in range(seeds)), "mean"]
    print("\n| " + " | ".join(columns) + " |\n|---|" + "--:|" * (seeds + 1))
    for name, rows in results.items():
        figures = [cell(row) for row in rows]
        cells = [f"{figure:,.{digits}f}" for figure in [*figures, mean(figures)]]
        print(f"| {name} | " + " | ".join(cells) + " |")


def print_plans(results: dict[str, list[Summary]]) -> None:
    """Bytes of each L-GreCo run's plans, against the uniform setting that sets their budget."""
    print("\n| plans against uniform | seed | plans | fewer bytes | least | error within budget |")
    print("|---|--:|--:|--:|--:|---|")
    for name, rows in results.items():
        for seed, row in enumerate(rows):
            if row.plan_gain:
                within = "always" if row.within_budget else "NO"
                cells = (seed, row.plans, f"{row.plan_gain:.2f}x", f"{row.plan_gain_min:.2f}x")
                print(f"| {name} | " + " | ".join(map(str, cells)) + f" | {within} |")


def print_accordion_checks(results: dict[str, list[Summary]]) -> None:
    """What planning under Accordion's levels gains."""
    alone = results[ACCORDION_RUNS[0].name]
    for run in ACCORDION_RUNS[1:]:
        both = results[run.name]
        fewer = mean_of(alone, lambda s: s.counted) / mean_of(both, lambda s: s.counted)
        gain = mean_of(both, lambda s: s.accuracy) - mean_of(alone, lambda s: s.accuracy)
        print(f"\n{run.name}, mean over seeds, against {ACCORDION_RUNS[0].name}:")
        print(f"  whole run, counted: {fewer:.2f}x fewer bytes (at least 1.30 wanted)")
        print(f"  accuracy: {gain:+.2f} points (not below is wanted)")


def print_demo_checks(results: dict[str, list[Summary]]) -> None:
    """What the project promises, of PowerSGD ranks 2-8."""
    dense, uniform, adaptive = (results[run.name] for run in RUNS[:3])
    fewer = mean_of(uniform, lambda s: s.counted) / mean_of(adaptive, lambda s: s.counted)
    plans = mean_of(adaptive, lambda s: s.plan_gain or 1)
    loss = mean_of(dense, lambda s: s.accuracy) - mean_of(adaptive, lambda s: s.accuracy)
    print(f"\n{RUNS[2].name}, mean over seeds:")
    print(f"  plans: {plans:.2f}x fewer bytes than {RUNS[1].name} (at least 1.30 wanted)")
    print(f"  whole run, counted: {fewer:.2f}x fewer bytes than {RUNS[1].name}")
    print(
        f"  error within the budget: {'always' if all(s.within_budget for s in adaptive) else 'NO'}"
    )
    print(f"  accuracy: {loss:.2f} points below dense (at most 0.5 wanted)")


def mean_of(rows: Sequence[Summary], figure: Callable[[Summary], float]) -> float:
    return mean(map(figure, rows))


def main(
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    steps: Annotated[int, typer.Option(min=1)] = 2400,
    output: Annotated[Path, typer.Option(help="Folder for the logs.")] = Path("runs/seeds"),
    data: Annotated[
        Path | None, typer.Option(help="Folder of CIFAR-10 or CIFAR-100 (binary version).")
    ] = None,
    study: Annotated[str, typer.Option(help="Which runs: demo or accordion.")] = "demo",
) -> None:
    """Train every run with every seed; runs with a complete log are not repeated."""
    if study not in STUDIES:
        raise typer.BadParameter(f"there is no study {study!r}; there are {', '.join(STUDIES)}")
    runs = STUDIES[study]
    output.mkdir(parents=True, exist_ok=True)
    options: dict[str, object] = {**FULL, "steps": steps}
    if data is not None:
        options["data"] = data
    results: dict[str, list[Summary]] = {run.name: [] for run in runs}
    for seed in range(seeds):
        for run in runs:
            result = finished(run, seed, options, output)
            results[run.name].append(result)
            print(f"seed {seed}, {run.name}: {result.accuracy:.2f} %", flush=True)
    print_table(results, "test accuracy, %", lambda s: s.accuracy, 2)
    print_table(results, "kB/step, counted", lambda s: s.counted / 1e3, 1)
    print_table(results, "kB/step, loopback counter", lambda s: s.loopback / 1e3, 1)
    print_plans(results)
    {"demo": print_demo_checks, "accordion": print_accordion_checks}[study](results)


if __name__ == "__main__":
    typer.run(main)
