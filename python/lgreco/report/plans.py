"""Plots of plans: what each layer sends and loses, and how its level changes over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from lgreco import _core
from lgreco.report.panels import COLOURS, GREY, elided, name_of, panel_grid, plain_log_axis
from lgreco.run_log import Line, Run, plans_in_effect

_INCHES_A_LAYER = 0.17
_MOST_LAYERS = 70  # the largest are shown
_MOST_PLANS_WITH_LEVELS = 16
_MOST_STEPS_WRITTEN = 16


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


def _histories(runs: Sequence[Run]) -> list[_History]:
    """Of each run that had more than its first plan, or a plan with estimates."""
    found = []
    for run in runs:
        plans = plans_in_effect(run)
        if len(plans) > 1 or (plans and plans[0].get("estimates")):
            found.append(_history(name_of(run), plans, run["start"][0]["layers"]))
    return found


def _history(name: str, plans: list[Line], shapes: dict[str, list[int]]) -> _History:
    compressed = [n for n in plans[0]["levels"] if any(p["levels"][n] != "dense" for p in plans)]
    largest = sorted(compressed, key=lambda n: -math.prod(shapes[n]))[:_MOST_LAYERS]
    shown = [n for n in compressed if n in set(largest)]
    return _History(name, plans, shown, len(compressed) - len(shown), shapes)


def layers(runs: Sequence[Run]) -> Figure | None:
    """Bytes, and error when there are estimates, of the last plan beside its reference."""
    histories = _histories(runs)
    if not histories:
        return None
    measured = any(history.plans[-1].get("estimates") for history in histories)
    figure, grid = panel_grid([_height(history) for history in histories], 2 if measured else 1)
    for history, row in zip(histories, grid, strict=True):
        _compare(row[0], history, _bytes_of, "kB per step (logarithmic)", 1e-3)
        _name_rows(row[0], history)
        row[0].set_title(f"{history.title}: {_totals(history)}", fontsize=11, loc="left")
        if not measured:
            continue
        if history.plans[-1].get("estimates"):
            _compare(row[1], history, _error_of, "L2 norm of what is lost (logarithmic)", 1)
            row[1].set_yticks(range(len(history.layers)), [])
        else:
            row[1].set_visible(False)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
    return figure


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
    panel: Axes,
    history: _History,
    values_of: Callable[[_History, str], tuple[float, float]],
    label: str,
    scale: float,
) -> None:
    pairs = scale * np.array([values_of(history, layer) for layer in history.layers])
    chosen, reference = np.where(pairs > 0, pairs, np.nan).reshape(-1, 2).T
    rows = np.arange(len(history.layers))
    panel.hlines(rows, chosen, reference, color=GREY, lw=1.5, alpha=0.6)
    panel.plot(reference, rows, "o", color=COLOURS[1], ms=6, mfc="white", label="reference")
    panel.plot(chosen, rows, "o", color=COLOURS[2], ms=4, label="last plan")
    panel.set_xscale("log")
    plain_log_axis(panel.xaxis)
    panel.set_xlabel(label)
    panel.set_ylim(len(rows) - 0.5, -0.5)


def plans(runs: Sequence[Run]) -> Figure | None:
    """Bits an element of each layer over the plans, with the levels when they are few."""
    histories = [h for h in _histories(runs) if len(h.plans) > 1]
    if not histories:
        return None
    figure, grid = panel_grid([_height(history) for history in histories], 1)
    for history, panel in zip(histories, grid[:, 0], strict=True):
        bits = np.array([_bits(history, layer) for layer in history.layers])
        norm = LogNorm(vmin=bits.min(), vmax=max(bits.max(), 1.01 * bits.min()))
        image = panel.imshow(bits, aspect="auto", cmap=colormaps["viridis"], norm=norm)
        panel.grid(False)
        steps = [str(plan["step"]) for plan in history.plans]
        shown = range(0, len(steps), -(-len(steps) // _MOST_STEPS_WRITTEN))
        panel.set_xticks(list(shown), [steps[i] for i in shown], fontsize=8)
        panel.set_xlabel("step from which the plan holds")
        _name_rows(panel, history)
        panel.set_title(history.title, fontsize=11, loc="left")
        if len(history.plans) <= _MOST_PLANS_WITH_LEVELS:
            _write_levels(panel, history, norm(bits))
        bar = figure.colorbar(image, ax=panel, label="bits an element (logarithmic)")
        plain_log_axis(bar.ax.yaxis)
    return figure


def _bits(history: _History, layer: str) -> list[float]:
    elements = max(1, math.prod(history.shapes[layer]))
    return [max(8 * plan["layer_bytes"][layer], 1) / elements for plan in history.plans]


def _write_levels(panel: Axes, history: _History, brightness: np.ndarray) -> None:
    one_family = len(_families(history)) == 1
    for (row, column), bright in np.ndenumerate(brightness):
        level = history.plans[column]["levels"][history.layers[row]]
        panel.text(
            column,
            row,
            _short(level, one_family),
            ha="center",
            va="center",
            fontsize=7,
            color="black" if bright > 0.6 else "white",
        )


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


def _height(history: _History) -> float:
    return max(2.2, 1.0 + _INCHES_A_LAYER * len(history.layers))


def _name_rows(panel: Axes, history: _History) -> None:
    names = [elided(layer) for layer in history.layers]
    panel.set_yticks(range(len(names)), names, fontsize=7)
