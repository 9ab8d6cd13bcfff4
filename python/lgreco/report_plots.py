"""The plots of a report: each takes runs and gives a matplotlib figure, or None without data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from lgreco.run_log import plans_in_effect

Run = dict[str, list[dict]]
_COLOURS = ("#4c5a69", "#d98032", "#2a7fbf", "#3a9d5d", "#9a5bb5", "#c0504d")
_SMOOTHING_STEPS = 25


def _name(run: Run) -> str:
    return run["start"][0]["name"]


def _panels(count: int, height: float = 3.6) -> tuple[Figure, list]:
    figure = Figure(figsize=(11, height), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False)[0]
    for panel in panels:
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, list(panels)


def _smoothed(run: Run) -> tuple[np.ndarray, np.ndarray]:
    steps = np.array([line["step"] for line in run["step"]])
    losses = np.array([line["loss"] for line in run["step"]])
    window = min(_SMOOTHING_STEPS, len(losses))
    return steps[window - 1 :], np.convolve(losses, np.ones(window) / window, mode="valid")


def _bytes_at(run: Run, steps: np.ndarray) -> np.ndarray:
    """Bytes sent so far, between the evaluations that counted them."""
    known = [(0, 0.0)] + [(line["step"], line["bytes_sent"]) for line in run["evaluation"]]
    return np.interp(steps, *zip(*known, strict=True))


def _curves(runs: Sequence[Run], kind: str) -> Figure | None:
    runs = [run for run in runs if run.get("step") and run.get("evaluation")]
    if not runs:
        return None
    figure, (over_steps, over_bytes) = _panels(2)
    for run, colour in zip(runs, _cycle(runs), strict=True):
        if kind == "loss":
            steps, values = _smoothed(run)
        else:
            steps = np.array([line["step"] for line in run["evaluation"]])
            values = np.array([line["accuracy"] for line in run["evaluation"]])
        marker = "" if kind == "loss" else "o"
        over_steps.plot(steps, values, color=colour, marker=marker, ms=4, label=_name(run))
        over_bytes.plot(_bytes_at(run, steps) / 1e6, values, color=colour, marker=marker, ms=4)
    over_steps.set_xlabel("step")
    over_bytes.set_xlabel("MB sent by one rank (logarithmic)")
    over_bytes.set_xscale("log")
    for panel in (over_steps, over_bytes):
        panel.set_ylabel("training loss" if kind == "loss" else "test accuracy, %")
    over_steps.legend(frameon=False)
    return figure


def _cycle(runs: Sequence[Run]) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(len(runs))]


def loss(runs: Sequence[Run]) -> Figure | None:
    return _curves(runs, "loss")


def accuracy(runs: Sequence[Run]) -> Figure | None:
    return _curves(runs, "accuracy")


def _planning(runs: Sequence[Run]) -> list[tuple[str, list[dict]]]:
    """Name and plans of each run that had more than its first plan."""
    histories = [(_name(run), plans_in_effect(run)) for run in runs]
    return [(name, history) for name, history in histories if len(history) > 1]


def layer_bytes(runs: Sequence[Run]) -> Figure | None:
    """The first plan of each planning run (the uniform reference) beside its last."""
    histories = _planning(runs)
    if not histories:
        return None
    figure, panels = _panels(len(histories), height=6)
    for (name, history), panel in zip(histories, panels, strict=True):
        first, last = history[0], history[-1]
        names = [n for n in first["levels"] if _is_compressed(n, history)]
        rows = np.arange(len(names))
        for offset, plan, colour, label in (
            (-0.2, first, _COLOURS[1], "uniform"),
            (0.2, last, _COLOURS[2], "last plan"),
        ):
            label = f"{label}: {plan['bytes'] / 1e3:,.1f} kB in all"
            kilobytes = [plan["layer_bytes"][n] / 1e3 for n in names]
            panel.barh(rows + offset, kilobytes, 0.4, color=colour, label=label)
        panel.set_yticks(rows, names, fontsize=7)
        panel.invert_yaxis()
        panel.set_xlabel("kB per step")
        panel.set_title(name, fontsize=11)
        panel.legend(frameon=False)
    return figure


def plans(runs: Sequence[Run]) -> Figure | None:
    """Level per layer over the plans of each planning run."""
    histories = _planning(runs)
    if not histories:
        return None
    figure, panels = _panels(len(histories), height=6)
    for (name, history), panel in zip(histories, panels, strict=True):
        names = [n for n in history[0]["levels"] if _is_compressed(n, history)]
        values = np.array([[_parameter(plan["levels"][n]) for plan in history] for n in names])
        colours = colormaps["viridis"].with_extremes(bad="#e3e8ee")
        image = panel.imshow(values, aspect="auto", cmap=colours)
        panel.grid(False)
        panel.set_yticks(range(len(names)), names, fontsize=7)
        panel.set_xticks(range(len(history)), [str(plan["step"]) for plan in history], fontsize=8)
        panel.set_xlabel("step from which the plan holds")
        panel.set_title(name, fontsize=11)
        for (row, column), value in np.ndenumerate(values):
            text, colour = ("dense", "#51606f") if np.isnan(value) else (f"{value:g}", "white")
            if value > 0.6 * np.nanmax(values):  # on the bright end of the colours
                colour = "black"
            panel.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
        figure.colorbar(image, ax=panel, label=_parameter_name(history))
    return figure


def _is_compressed(layer: str, history: list[dict]) -> bool:
    return any(plan["levels"][layer] != "dense" for plan in history)


def _parameter_name(history: list[dict]) -> str:
    methods = {spelling.split(":")[0] for spelling in history[-1]["levels"].values()} - {"dense"}
    names = {"low_rank": "rank", "quantize": "bits", "topk": "density"}
    return names.get(methods.pop(), "level") if len(methods) == 1 else "level"


def _parameter(spelling: str) -> float:
    """The number in a level's spelling; NaN for dense."""
    parts = spelling.split(":")
    try:
        return float(parts[1])
    except (IndexError, ValueError):
        return float("nan")


PLOTS = (
    ("Training loss", "Mean over 25 steps, on rank 0.", loss),
    ("Test accuracy", "The last point is on the whole test set, the others on a part.", accuracy),
    (
        "Bytes per layer",
        "Payload of each compressed layer under the uniform reference and under the last plan. "
        "The sums include the layers that always travel dense (norms, biases, small matrices), "
        "which have no bars.",
        layer_bytes,
    ),
    (
        "The plan over time",
        "The level of each compressed layer under each plan. The first, at step 0, is uniform.",
        plans,
    ),
)
