"""The plots of a report: each takes runs and gives a matplotlib figure, or None without data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lgreco.report.panels import COLOURS, name_of, panels, plain_log_axis
from lgreco.report.plans import layers, plans
from lgreco.run_log import Run

_SMOOTHING_STEPS = 25


def _smoothed(run: Run) -> tuple[np.ndarray, np.ndarray]:
    steps = np.array([line["step"] for line in run["step"]])
    losses = np.array([line["loss"] for line in run["step"]])
    window = min(_SMOOTHING_STEPS, len(losses))
    return steps[window - 1 :], np.convolve(losses, np.ones(window) / window, mode="valid")


def _bytes_at(run: Run, steps: np.ndarray) -> np.ndarray:
    """Bytes sent so far, between the evaluations that counted them."""
    counted = [0.0] + [line["step"] for line in run["evaluation"]]
    sent = [0.0] + [line["bytes_sent"] for line in run["evaluation"]]
    at_steps: np.ndarray = np.interp(steps, counted, sent)
    return at_steps


def _curves(runs: Sequence[Run], kind: str) -> Figure | None:
    runs = [run for run in runs if run.get("step") and run.get("evaluation")]
    if not runs:
        return None
    figure, (over_steps, over_bytes) = panels(2)
    for run, colour in zip(runs, _cycle(runs), strict=True):
        if kind == "loss":
            steps, values = _smoothed(run)
        else:
            steps = np.array([line["step"] for line in run["evaluation"]])
            values = np.array([line["accuracy"] for line in run["evaluation"]])
        marker = "" if kind == "loss" else "o"
        over_steps.plot(steps, values, color=colour, marker=marker, ms=4, label=name_of(run))
        over_bytes.plot(_bytes_at(run, steps) / 1e6, values, color=colour, marker=marker, ms=4)
    over_steps.set_xlabel("step")
    over_bytes.set_xlabel("MB sent by one rank (logarithmic)")
    over_bytes.set_xscale("log")
    plain_log_axis(over_bytes.xaxis)
    for panel in (over_steps, over_bytes):
        panel.set_ylabel("training loss" if kind == "loss" else "test accuracy, %")
    over_steps.legend(frameon=False)
    return figure


def _cycle(runs: Sequence[Run]) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(len(runs))]


def loss(runs: Sequence[Run]) -> Figure | None:
    return _curves(runs, "loss")


def accuracy(runs: Sequence[Run]) -> Figure | None:
    return _curves(runs, "accuracy")


PLOTS = (
    ("Training loss", "Mean over 25 steps, on rank 0.", loss),
    ("Test accuracy", "The last point is on the whole test set, the others on a part.", accuracy),
    (
        "Bytes and error per layer",
        "Payload of each compressed layer under the last plan and under the reference level, and, "
        "where the plan was made from measurements, what each loses of the layer. A plan sends "
        "less where that does little harm, and more where it does much; the sum of the harm stays "
        "within the budget. What loses nothing has no mark. Layers that always travel dense "
        "(norms, biases, small matrices) are not shown.",
        layers,
    ),
    (
        "The plan over time",
        "Bits an element of each compressed layer under each plan; the first plan is the one of "
        "step 0. In the cells: the level's parameter (r rank, q bits, k density, when families are "
        "mixed).",
        plans,
    ),
)
