"""Accuracy over bytes: a panel for each task, a line for each family and each measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments.budget_study.analysis import Point

_FAMILIES = {
    "low_rank": ("#2a7fbf", "low rank"),
    "quantize": ("#9a5bb5", "quantisation"),
    "topk": ("#3a9d5d", "top-k"),
}
_MIXED = ("#c0504d", "#d98032", "#4c5a69")
_LEAST_SHOWN = 0.75  # of the dense accuracy


def write_plot(tasks: Mapping[str, Sequence[Point]], measures: Sequence[str], path: Path) -> None:
    """Points are means over the seeds, bars reach from the worst to the best seed."""
    figure = Figure(figsize=(5.5 * len(tasks), 4), layout="constrained")
    for panel, (task, found) in zip(
        figure.subplots(1, len(tasks), squeeze=False)[0], tasks.items(), strict=True
    ):
        dense = next(point.accuracy for point in found if point.level == "dense")
        panel.axhline(dense, color="#888888", lw=0.8, ls=":", label="dense")
        for group, (colour, label) in _FAMILIES.items():
            _line(panel, [p for p in found if p.group == group], colour, label, "--")
        for measure, colour in zip(measures, _MIXED, strict=False):
            _line(panel, [p for p in found if p.group == measure], colour, f"mixed: {measure}", "-")
        panel.set_xscale("log")
        panel.set_ylim(bottom=_LEAST_SHOWN * dense)
        panel.set_title(task)
        panel.set_xlabel("payload, kB a step")
        panel.set_ylabel("test accuracy, %")
        panel.grid(alpha=0.25)
    panel.legend(frameon=False, fontsize="small")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _line(panel, points: Sequence[Point], colour: str, label: str, style: str) -> None:
    if not points:
        return
    heights = [point.accuracy for point in points]
    below = [point.accuracy - min(point.accuracies) for point in points]
    above = [max(point.accuracies) - point.accuracy for point in points]
    panel.errorbar(
        [point.payload / 1e3 for point in points], heights, yerr=(below, above),
        color=colour, label=label, ls=style, marker="o", ms=3, lw=1.3, capsize=2,
    )  # fmt: skip
