"""Tables, plot and summary from the logs of a sweep.

python -m experiments.budget_study.tables --plot docs/budget_study.svg \
    --summary benchmarks/results/budget_study.json
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import stdev
from typing import Annotated

import typer

from experiments.budget_study.analysis import (
    Comparison,
    Correlation,
    Entry,
    Point,
    compare,
    correlations,
    mean_correlations,
    points,
    read_log,
)
from experiments.budget_study.plot import write_plot
from experiments.budget_study.settings import RATIOS, family
from experiments.budget_study.window import Window

LEAST_RUNS = 30  # of a seed, to rank measures by
Logs = dict[str, dict[Path, list[Entry]]]


def read_logs(folder: Path) -> Logs:
    """By task, then by file: one for each seed."""
    logs: Logs = {}
    for path in sorted(folder.glob("*.jsonl")):
        entries = read_log(path)
        logs.setdefault(entries[0]["task"], {})[path] = entries
    return logs


def print_rows(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print("\n| " + " | ".join(heading) + " |\n|---|" + "--:|" * (len(heading) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def spread(values: Sequence[float]) -> str:
    """Mean, and standard deviation over the seeds where there are several."""
    mean = sum(values) / len(values)
    return f"{mean:.2f} ± {stdev(values):.2f}" if len(values) > 1 else f"{mean:.2f}"


def print_uniform(task: str, found: Sequence[Point]) -> None:
    rows = [
        (
            p.level,
            f"{p.payload / 1e3:.1f}",
            f"{p.ratio:.1f}x",
            spread(p.accuracies),
            f"{p.loss:.3f}",
        )
        for p in found
        if p.level
    ]
    print_rows((f"{task}: uniform", "kB/step", "ratio", "accuracy, %", "loss"), rows)


def print_mixed(task: str, found: Sequence[Point], what: str, cell: Callable[[Point], str]) -> None:
    """One row for each measure, one column for each ratio."""
    by_name = {point.name: point for point in found}
    measures = list(dict.fromkeys(point.measure for point in found if point.measure))
    rows = []
    for measure in measures:
        cells = [by_name.get(f"{measure}@{ratio:g}") for ratio in RATIOS]
        rows.append((measure, *(cell(point) if point else "-" for point in cells)))
    print_rows((f"{task}: mixed, {what}", *(f"{ratio:g}x" for ratio in RATIOS)), rows)


def print_correlations(by_task: dict[str, dict[str, Correlation]]) -> None:
    columns = [
        column for task in by_task for column in (f"{task}, all runs", "plans of equal bytes")
    ]
    rows = []
    for measure in next(iter(by_task.values())):
        found = [ranked[measure] for ranked in by_task.values()]
        cells = [f"{value:.2f}" for one in found for value in (one.all_runs, one.equal_bytes)]
        rows.append((measure, *cells))
    print_rows(("rank correlation with the test loss", *columns), rows)


def print_comparisons(task: str, measure: str, seeds: Sequence[Sequence[Point]]) -> None:
    """The plans of a measure against the best uniform setting, seed by seed."""
    rows = []
    for ratio in RATIOS:
        found = [_comparison(f"{measure}@{ratio:g}", points) for points in seeds]
        found = [one for one in found if one is not None]
        if found:
            gains = ", ".join(f"{one.gain:+.2f}" for one in found)
            fewer = ", ".join(_times(one.fewer) for one in found)
            rows.append((f"{ratio:g}x", gains, fewer))
    print_rows((f"{task}: {measure}", "points at equal bytes", "fewer bytes"), rows)


def _times(fewer: float) -> str:
    return f"{fewer:.2f}x" if math.isfinite(fewer) else "no setting"


def _comparison(name: str, found: Sequence[Point]) -> Comparison | None:
    plan = next((point for point in found if point.name == name), None)
    return plan and compare(plan, [point for point in found if point.level])


def summary_of(found: Sequence[Point]) -> list[dict]:
    """What is kept of each setting."""
    return [
        {
            "name": p.name,
            "family": family(p.level) if p.level else "mixed",
            "payload": round(p.payload),
            "ratio": round(p.ratio, 2),
            "accuracies": [round(a, 2) for a in p.accuracies],
            "losses": [_number(loss, 4) for loss in p.losses],
        }
        for p in found
    ]


def _number(value: float, digits: int) -> float | None:
    """As JSON knows it: None for what is no number."""
    return round(value, digits) if math.isfinite(value) else None


def _plain(ranked: dict[str, dict[str, Correlation]]) -> dict:
    return {
        task: {
            name: [_number(one.all_runs, 3), _number(one.equal_bytes, 3)]
            for name, one in by_measure.items()
        }
        for task, by_measure in ranked.items()
    }


def main(
    logs: Annotated[Path, typer.Option(help="Folder of the logs.")] = Path("runs/budget_study"),
    plot: Annotated[Path | None, typer.Option(help="Where the curves go, as SVG or PNG.")] = None,
    summary: Annotated[Path | None, typer.Option(help="Where the summary goes, as JSON.")] = None,
    measures: Annotated[str, typer.Option(help="To compare with uniform.")] = "squared",
) -> None:
    """Print the tables; write the plot and the summary."""
    tasks = read_logs(logs)
    by_task = {
        task: points(entry for entries in files.values() for entry in entries)
        for task, files in tasks.items()
    }
    by_seed = {task: [points(run) for run in files.values()] for task, files in tasks.items()}
    for task, found in by_task.items():
        print_uniform(task, found)
        print_mixed(task, found, "accuracy, %", lambda p: spread(p.accuracies))
        print_mixed(task, found, "test loss", lambda p: f"{p.loss:.3f}")
        for measure in measures.split(","):
            print_comparisons(task, measure, by_seed[task])
    ranked = {
        task: mean_correlations(
            [
                correlations(entries, Window.load(path.with_suffix(".window.npz")))
                for path, entries in files.items()
                if len(entries) >= LEAST_RUNS
            ]
        )
        for task, files in tasks.items()
    }
    print_correlations(ranked)
    if plot is not None:
        write_plot(by_seed, measures.split(","), plot)
    if summary is not None:
        content = {"settings": {task: summary_of(found) for task, found in by_task.items()}}
        summary.write_text(
            json.dumps({**content, "rank_correlation": _plain(ranked)}, indent=1) + "\n"
        )


if __name__ == "__main__":
    typer.run(main)
