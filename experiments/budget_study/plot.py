"""Accuracy over bytes: a panel for each task, a line for each family and each measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.budget_study.analysis import Point

_FAMILIES = {
    "low_rank": ("#2a7fbf", "low rank"),
    "quantize": ("#9a5bb5", "quantisation"),
    "topk": ("#3a9d5d", "top-k"),
}
_MIXED = ("#c0504d", "#d98032", "#4c5a69")
_DEPTH = 1.5  # how far below dense to show, as a multiple of how far the mixed plans go


def write_plot(
    tasks: Mapping[str, Sequence[Sequence[Point]]], measures: Sequence[str], path: Path
) -> None:
    """Lines are the first seed, single dots the others; `tasks` holds points by seed."""
    figure = Figure(figsize=(5.5 * len(tasks), 4), layout="constrained")
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for panel, (task, seeds) in zip(panels, tasks.items(), strict=True):
        _draw(panel, seeds, measures)
        panel.set_title(task)
    panels[-1].legend(frameon=False, fontsize="small")
    metadata = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(path, metadata=metadata)


def _draw(panel: Axes, seeds: Sequence[Sequence[Point]], measures: Sequence[str]) -> None:
    dense = next(point.accuracy for point in seeds[0] if point.level == "dense")
    panel.axhline(dense, color="#888888", lw=0.8, ls=":", label="dense")
    for group, (colour, label) in _FAMILIES.items():
        _line(panel, seeds, group, colour, label, "--")
    for measure, colour in zip(measures, _MIXED, strict=False):
        _line(panel, seeds, measure, colour, f"mixed: {measure}", "-")
    lowest = min((p.accuracy for p in seeds[0] if p.group in measures), default=0.8 * dense)
    panel.set_ylim(dense - _DEPTH * (dense - lowest), dense + 0.2 * (dense - lowest))
    panel.set_xscale("log")
    panel.set_xlabel("payload, kB a step")
    panel.set_ylabel("test accuracy, %")
    panel.grid(alpha=0.25)


def _line(
    panel: Axes,
    seeds: Sequence[Sequence[Point]],
    group: str,
    colour: str,
    label: str,
    style: str,
) -> None:
    first, *others = ([point for point in found if point.group == group] for found in seeds)
    panel.plot(*_coordinates(first), color=colour, label=label, ls=style, marker="o", ms=4)
    for points in others:
        panel.plot(*_coordinates(points), color=colour, ls="", marker="o", ms=3, alpha=0.55)


def _coordinates(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.payload / 1e3 for point in points], [point.accuracy for point in points]
