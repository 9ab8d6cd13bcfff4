"""What all plots of a report share: colours, panels, names that fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from lgreco.run_log import Run

COLOURS = ("#4c5a69", "#d98032", "#2a7fbf", "#3a9d5d", "#9a5bb5", "#c0504d")
GREY = "#8a96a3"
_WIDTH_INCHES = 11.0
_ROW_INCHES = 3.6
_LONGEST_NAME = 34


def name_of(run: Run) -> str:
    return str(run["start"][0]["name"])


def panels(count: int) -> tuple[Figure, list[Any]]:
    """A row of `count` panels."""
    figure, grid = panel_grid([_ROW_INCHES], count)
    return figure, list(grid[0])


def panel_grid(heights: Sequence[float], columns: int) -> tuple[Figure, np.ndarray]:
    """Rows of `columns` panels; heights are in inches."""
    figure = Figure(figsize=(_WIDTH_INCHES, sum(heights)), layout="constrained")
    grid = figure.subplots(
        len(heights), columns, squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for panel in grid.ravel():
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, grid


class _FewTicks(LogLocator):
    """1, 2, 5, 10, ... on up to three decades, then 1, 10, ...: labels must not overlap."""

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        self.set_params(subs=(1, 2, 5) if vmax < 1000 * vmin else (1,))
        return super().tick_values(vmin, vmax)


def plain_log_axis(axis: Axis) -> None:
    """Ticks written as numbers, also when the axis spans less than a decade."""
    axis.set_major_locator(_FewTicks(numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def elided(name: str) -> str:
    """Without the middle of a long name: ends tell layers apart."""
    if len(name) <= _LONGEST_NAME:
        return name
    kept = _LONGEST_NAME - 1
    return f"{name[: kept // 3]}…{name[-(kept - kept // 3) :]}"
