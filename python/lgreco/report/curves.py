"""Loss and figures of evaluations over seconds, steps and bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lgreco.report.charts import Chart, axis, layout, log_axis, name_of, of_run, style_of, thinned
from lgreco.report.summary import dense_bytes
from lgreco.run_log import Line, Run
from lgreco.run_log.reading import figure

SMOOTHING_STEPS = 25
_UNITS = {"accuracy": "accuracy, %"}  # as the log has it
_NO_METRICS = {"event", "step", "seconds", "bytes_sent"}


def loss(runs: Sequence[Run]) -> list[Chart]:
    curves = [(place, *_smoothed(run)) for place, run in enumerate(runs) if run.get("step")]
    return _over_all_axes(runs, "training loss", curves, mode="lines")


def metrics(runs: Sequence[Run]) -> list[Chart]:
    """Three plots for each figure that evaluations have."""
    names = {name for run in runs for line in run.get("evaluation", []) for name in line}
    charts = []
    for name in sorted(names - _NO_METRICS):
        curves = []
        for place, run in enumerate(runs):
            lines = [line for line in run.get("evaluation", []) if name in line]
            if lines:
                curves.append((place, *_columns(lines), _values(lines, name)))
        label = _UNITS.get(name, name)
        charts += _over_all_axes(runs, label, curves, mode="lines+markers")
    return charts


Curve = tuple[int, np.ndarray, np.ndarray, np.ndarray]  # place of the run, steps, seconds, values


def _smoothed(run: Run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    steps, seconds = _columns(run["step"])
    losses = _values(run["step"], "loss")
    window = max(1, min(SMOOTHING_STEPS, len(losses) // 10))
    means = np.convolve(losses, np.ones(window) / window, mode="valid")
    return steps[window - 1 :], seconds[window - 1 :], means


def _columns(lines: Sequence[Line]) -> tuple[np.ndarray, np.ndarray]:
    return _values(lines, "step"), _values(lines, "seconds")


def _values(lines: Sequence[Line], name: str) -> np.ndarray:
    return np.array([figure(line, name) for line in lines])


def _over_all_axes(
    runs: Sequence[Run], label: str, curves: Sequence[Curve], *, mode: str
) -> list[Chart]:
    if not curves:
        return []
    sent = [_megabytes_at(runs[place], steps) for place, steps, _, _ in curves]
    known = [x for x in sent if x is not None]
    charts = [
        _chart(runs, label, "seconds", axis("s of training"), [(c, c[2]) for c in curves], mode),
        _chart(runs, label, "steps", axis("step"), [(c, c[1]) for c in curves], mode),
    ]
    if known:
        over = log_axis("MB sent by one rank (log)", [v for x in known for v in x.tolist()])
        pairs = [(c, x) for c, x in zip(curves, sent, strict=True) if x is not None]
        charts.append(_chart(runs, label, "bytes", over, pairs, mode))
    return charts


def _chart(
    runs: Sequence[Run],
    label: str,
    over: str,
    x_axis: dict[str, Any],
    curves: Sequence[tuple[Curve, np.ndarray]],
    mode: str,
) -> Chart:
    traces = []
    for (place, _, _, values), x in curves:
        xs, ys = thinned(x.tolist(), values.tolist())
        traces.append(
            {
                "type": "scatter",
                "mode": mode,
                "name": name_of(runs[place]),
                "x": xs,
                "y": ys,
                "line": {"width": 2, **style_of(place)},
                "marker": {"size": 6},
                "hovertemplate": "%{y:.4g} at %{x:,.4~g}",
                **of_run(place),
            }
        )
    title = f"{label} over {over}"
    return Chart(title[:1].upper() + title[1:], traces, layout(x_axis, axis(label)))


def _megabytes_at(run: Run, steps: np.ndarray) -> np.ndarray | None:
    """Sent so far, between the lines that counted: None when nobody has."""
    counted, sent = [0.0], [0.0]
    for line in sorted(_lines_with_bytes(run), key=lambda line: float(line["step"])):
        counted.append(line["step"])
        sent.append(line["bytes_sent"])
    if len(counted) == 1:
        dense = dense_bytes(run)
        return None if not dense else steps * dense / 1e6
    found: np.ndarray = np.interp(steps, counted, sent)
    if steps[-1] > counted[-1]:  # at the rate until there
        later = steps > counted[-1]
        found[later] = sent[-1] * steps[later] / counted[-1]
    return found / 1e6


def _lines_with_bytes(run: Run) -> list[Line]:
    found = [line for line in run.get("evaluation", []) if "bytes_sent" in line]
    for line in run.get("stats", []):
        sent = line["stats"].get("bytes_sent", math.nan)
        found.append({"step": line["step"], "bytes_sent": sent})
    for line in run.get("end", []):
        if "bytes_sent" in line.get("stats", {}):
            found.append({"step": line["steps"], "bytes_sent": line["stats"]["bytes_sent"]})
    return [line for line in found if line["step"] > 0]
