"""What all plots of a report share: a figure as Plotly takes it, colours, axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lgreco.run_log import Run

COLOURS = ("#4c5a69", "#c96a12", "#2a7fbf", "#2c8a4b", "#9a5bb5", "#c0504d")  # 3:1 on white
DASHES = ("solid", "dash", "dot")
GREY = "#8a96a3"
INK = "#1d2733"
HEIGHT = 320  # pixels
_MOST_POINTS = 800  # of a curve: what a screen can show


@dataclass(frozen=True)
class Chart:
    """One plot: traces and layout in Plotly's own terms, its height in pixels."""

    title: str
    traces: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int = HEIGHT


def name_of(run: Run) -> str:
    return str(run["start"][0]["name"])


def style_of(place: int) -> dict[str, str]:
    """Of the run that stands there in the list."""
    dash = DASHES[place // len(COLOURS) % len(DASHES)]
    return {"color": COLOURS[place % len(COLOURS)], "dash": dash}


def of_run(place: int) -> dict[str, Any]:
    """For traces that come and go with their run."""
    return {"meta": {"run": place}}


def layout(x: dict[str, Any], y: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"xaxis": x, "yaxis": y, "showlegend": False, **others}


def axis(title: str, **others: Any) -> dict[str, Any]:
    return {"title": {"text": title}, **others}


def log_axis(title: str, values: Iterable[float], **others: Any) -> dict[str, Any]:
    """Logarithmic, with few ticks at 1, 2 and 5 times powers of ten, over all of `values`."""
    positive = [value for value in values if value > 0 and math.isfinite(value)]
    low, high = (min(positive), max(positive)) if positive else (1.0, 10.0)
    margin = max(0.04 * math.log10(high / low), 0.05)
    ends = [math.log10(low) - margin, math.log10(high) + margin]
    ticks = _ticks(ends)
    return {
        "title": {"text": title},
        "type": "log",
        "range": [round(end, 4) for end in ends],
        "tickvals": ticks,
        "ticktext": [plain(tick) for tick in ticks],
        "ticklabeloverflow": "allow",
        **others,
    }


def _ticks(ends: Sequence[float]) -> list[float]:
    """In a range given by logarithms; the fewest steps that give at least three, or 1, 2, 5."""
    decades = range(math.floor(ends[0]), math.ceil(ends[1]) + 1)
    every = max(1, len(decades) // 6)
    wholes = [10.0**d for d in decades if ends[0] <= d <= ends[1] and d % every == 0]
    if len(wholes) >= 3:
        return wholes
    finer = [m * 10.0**d for d in decades for m in (1, 2, 5)]
    return [t for t in finer if ends[0] <= math.log10(t) <= ends[1]]


def plain(value: float) -> str:
    """1,000 and 0.001, not 1e+03."""
    return f"{value:,.0f}" if value >= 1 else f"{value:.12f}".rstrip("0")


def thinned(*columns: Sequence[float]) -> list[list[float | None]]:
    """As many points of a curve as can be seen, with the last; none for what is not finite."""
    count = len(columns[0])
    stride = max(1, count // _MOST_POINTS)
    places = list(range((count - 1) % stride, count, stride))
    return [[rounded(column[i]) for i in places] for column in columns]


def rounded(value: float) -> float | None:
    """To what a plot can show: the page need not hold more."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
