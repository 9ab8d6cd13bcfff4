"""Plots of plans: what each layer sends and loses, and how its level changes over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lgreco import _core
from lgreco.report.charts import (
    COLOURS,
    GREY,
    INK,
    Chart,
    layout,
    log_axis,
    name_of,
    plain,
    rounded,
)
from lgreco.report.names import short_names
from lgreco.run_log import Line, Run, plans_in_effect

_PIXELS_A_LAYER = 17
_PIXELS_OF_AXES = 120
_MOST_LAYERS = 70  # the largest are shown
_MOST_PLANS_WITH_LEVELS = 16
_PALE_TO_BLUE = [[0, "#f1f6fb"], [0.5, "#b3d2ea"], [1, "#5fa4d6"]]  # under dark text


@dataclass(frozen=True)
class _History:
    """A run's plans, and the layers that some plan compresses, the largest when there are many."""

    name: str
    plans: list[Line]
    layers: list[str]
    left_out: int
    shapes: dict[str, list[int]]

    @property
    def title(self) -> str:
        more = f" ({self.left_out} small layers not shown)" if self.left_out else ""
        return self.name + more

    @property
    def rows(self) -> dict[str, Any]:
        """The axis of the layers."""
        return {
            "type": "category",
            "categoryarray": short_names(self.layers),
            "categoryorder": "array",
            "range": [len(self.layers) - 0.5, -0.5],
            "automargin": True,
            "tickfont": {"size": 10},
            "dtick": 1,
        }

    @property
    def height(self) -> int:
        return _PIXELS_OF_AXES + _PIXELS_A_LAYER * len(self.layers)


def _histories(runs: Sequence[Run]) -> list[_History]:
    """Of each run that had more than its first plan, or a plan with estimates."""
    found = []
    for run in runs:
        plans = plans_in_effect(run)
        if len(plans) > 1 or (plans and plans[0].get("estimates")):
            history = _history(name_of(run), plans, run["start"][0].get("layers", {}))
            if history.layers:
                found.append(history)
    return found


def _history(name: str, plans: list[Line], shapes: dict[str, list[int]]) -> _History:
    known = [n for n in plans[0]["levels"] if n in shapes and all(n in p["levels"] for p in plans)]
    compressed = [n for n in known if any(p["levels"][n] != "dense" for p in plans)]
    largest = sorted(compressed, key=lambda n: -math.prod(shapes[n]))[:_MOST_LAYERS]
    shown = [n for n in compressed if n in set(largest)]
    return _History(name, plans, shown, len(compressed) - len(shown), shapes)


def layers(runs: Sequence[Run]) -> list[Chart]:
    """Bytes, and error when there are estimates, of the last plan beside its reference."""
    charts = []
    for history in _histories(runs):
        title = f"{history.title}: {_totals(history)}"
        charts.append(_compare(title, history, _bytes_of, "kB per step (log)", 1e-3))
        if history.plans[-1].get("estimates"):
            label = "L2 norm lost (log)"
            charts.append(_compare(f"{history.title}: error", history, _error_of, label, 1))
    return charts


def _totals(history: _History) -> str:
    """Of all layers, also those without a row."""
    first, last = history.plans[0]["bytes"], history.plans[-1]["bytes"]
    if len(history.plans) == 1:
        return f"{last / 1e3:,.1f} kB in all"
    return f"{last / 1e3:,.1f} kB in all, {first / 1e3:,.1f} kB with the first plan"


def _bytes_of(history: _History, layer: str) -> tuple[float, float]:
    """Chosen and reference; the first plan is uniform, where the plan does not say."""
    first, last = history.plans[0], history.plans[-1]
    estimate = last.get("estimates", {}).get(layer)
    reference = estimate["reference"]["bytes"] if estimate else first["layer_bytes"][layer]
    return last["layer_bytes"][layer], reference


def _error_of(history: _History, layer: str) -> tuple[float, float]:
    estimate = history.plans[-1]["estimates"].get(layer)
    if estimate is None:
        return math.nan, math.nan
    return estimate["chosen"]["error"], estimate["reference"]["error"]


def _compare(
    title: str,
    history: _History,
    values_of: Callable[[_History, str], tuple[float, float]],
    label: str,
    scale: float,
) -> Chart:
    """A line from the reference to the last plan for each layer."""
    rows = short_names(history.layers)
    pairs = [values_of(history, layer) for layer in history.layers]
    chosen, reference = (
        [rounded(scale * value) if value > 0 else None for value in values]
        for values in zip(*pairs, strict=True)
    )
    lines: dict[str, list[Any]] = {"x": [], "y": []}
    for row, ends in zip(rows, zip(chosen, reference, strict=True), strict=True):
        lines["x"] += [*ends, None]
        lines["y"] += [row, row, None]
    levels = history.plans[-1]["levels"]
    common = {"type": "scatter", "y": rows, "mode": "markers"}
    traces: list[dict[str, Any]] = [
        {
            **lines,
            "type": "scatter",
            "mode": "lines",
            "line": {"color": GREY, "width": 1.5},
            "hoverinfo": "skip",
            "showlegend": False,
        },
        {
            **common,
            "name": "reference",
            "x": reference,
            "marker": {
                "symbol": "circle-open",
                "size": 9,
                "color": COLOURS[1],
                "line": {"width": 2},
            },
            "text": history.layers,
            "hovertemplate": "%{text}<br>reference: %{x:.4~g}<extra></extra>",
        },
        {
            **common,
            "name": "last plan",
            "x": chosen,
            "marker": {"size": 7, "color": COLOURS[2]},
            "text": [f"{layer}<br>{levels[layer]}" for layer in history.layers],
            "hovertemplate": "%{text}: %{x:.4~g}<extra></extra>",
        },
    ]
    known = [value for value in [*chosen, *reference] if value is not None]
    x = log_axis(label, known, side="bottom")
    return Chart(
        title,
        traces,
        layout(x, history.rows, showlegend=True, legend=_LEGEND_ABOVE),
        height=history.height,
    )


_LEGEND_ABOVE = {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"}


def plans(runs: Sequence[Run]) -> list[Chart]:
    """Bits an element of each layer over the plans, with the levels when they are few."""
    return [_over_plans(history) for history in _histories(runs) if len(history.plans) > 1]


def _over_plans(history: _History) -> Chart:
    bits = [_bits(history, layer) for layer in history.layers]
    one_family = len(_families(history)) == 1
    levels = [[plan["levels"][layer] for plan in history.plans] for layer in history.layers]
    scale = log_axis("", [value for row in bits for value in row])
    trace: dict[str, Any] = {
        "type": "heatmap",
        "y": short_names(history.layers),
        "x": [f"{plan['step']:,}" for plan in history.plans],
        "z": [[rounded(math.log10(value)) for value in row] for row in bits],
        "customdata": [
            [
                f"{layer}<br>{level}: {plain(float(f'{b:.3g}'))} bits an element"
                for level, b in cells
            ]
            for layer, cells in zip(
                history.layers,
                (list(zip(*pair, strict=True)) for pair in zip(levels, bits, strict=True)),
                strict=True,
            )
        ],
        "hovertemplate": "%{customdata}<br>from step %{x}<extra></extra>",
        "colorscale": _PALE_TO_BLUE,
        "xgap": 1,
        "ygap": 1,
        "colorbar": {
            "title": {"text": "bits"},
            "tickvals": [math.log10(tick) for tick in scale["tickvals"]],
            "ticktext": scale["ticktext"],
            "thickness": 10,
            "outlinewidth": 0,
        },
    }
    if len(history.plans) <= _MOST_PLANS_WITH_LEVELS:
        trace["text"] = [[_short(level, one_family) for level in row] for row in levels]
        trace["texttemplate"] = "%{text}"
        trace["textfont"] = {"size": 10, "color": INK}
    x = {"type": "category", "title": {"text": "from step"}}
    return Chart(history.title, [trace], layout(x, history.rows), height=history.height)


def _bits(history: _History, layer: str) -> list[float]:
    elements = max(1, math.prod(history.shapes[layer]))
    return [max(8 * plan["layer_bytes"][layer], 1) / elements for plan in history.plans]


def _families(history: _History) -> set[str]:
    levels = {plan["levels"][layer] for plan in history.plans for layer in history.layers}
    return {level.partition(":")[0] for level in levels} - {"dense"}


_LETTERS = {row["name"]: row["letter"] for row in _core.method_table()}


def _short(level: str, one_family: bool) -> str:
    """`low_rank:4:factors=8` as "4/8" when all levels are ranks, else as "r4/8": settings that are
    a number of bits follow."""
    family, *rest = level.split(":")
    if not rest or not rest[0]:
        return level
    values = [setting.partition("=")[2] for setting in rest[1:]]
    short = "/".join([rest[0], *(value for value in values if value.isdigit() and len(value) == 1)])
    return short if one_family else _LETTERS.get(family, family) + short
