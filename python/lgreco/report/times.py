"""Where the time of a step goes: encoding, waiting, the wire."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from lgreco.report.charts import (
    Chart,
    axis,
    layout,
    log_axis,
    name_of,
    of_run,
    rounded,
    style_of,
    thinned,
)
from lgreco.report.summary import Summary, milliseconds, summaries
from lgreco.run_log import Run

_WIRE = 1e9 / 8  # bytes a second
_PARTS: dict[str, Callable[[Summary], float | None]] = {
    "step": lambda s: s.step_s,
    "compute": lambda s: s.compute_s,
    "encode": lambda s: s.encode_s,
    "decode": lambda s: s.decode_s,
    "checks": lambda s: s.check_s,
    "wait": lambda s: s.wait_s,
    "wire at 1 Gb/s*": lambda s: None if s.counted is None else s.counted / _WIRE,
}
_BANDWIDTHS = [10 ** (exponent / 4) for exponent in range(28, 45)]  # 10 Mb/s to 100 Gb/s, in bits


def times(runs: Sequence[Run]) -> list[Chart]:
    rows = summaries(runs)
    charts = [_parts(rows), _over_bandwidths(rows)]
    charts += [_over_steps(runs, name, label) for name, label in _OVER_STEPS.items()]
    return [chart for chart in charts if chart is not None]


def _parts(rows: Sequence[Summary]) -> Chart:
    """Bars for each part, one for each run."""
    parts = {n: of for n, of in _PARTS.items() if any(of(row) is not None for row in rows)}
    traces: list[dict[str, Any]] = []
    for place, row in enumerate(rows):
        values = [part(row) for part in parts.values()]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": row.name,
                "y": list(parts),
                "x": [None if value is None else rounded(1e3 * value) for value in values],
                "text": ["" if value is None else milliseconds(value) for value in values],
                "textposition": "outside",
                "textfont": {"size": 10},
                "cliponaxis": False,
                "marker": {"color": style_of(place)["color"]},
                "hovertemplate": "%{y}: %{x:.3~g} ms",
                **of_run(place),
            }
        )
    most = max(value or 0.0 for row in rows for part in parts.values() for value in [part(row)])
    return Chart(
        "Of one step",
        traces,
        layout(
            axis("ms", range=[0, 1.25e3 * most]),
            {"autorange": "reversed", "automargin": True},
            barmode="group",
        ),
        height=_height(rows),
    )


def _height(rows: Sequence[Summary]) -> int:
    return 90 + len(_PARTS) * (14 + 15 * len(rows))


def _over_bandwidths(rows: Sequence[Summary]) -> Chart | None:
    """A computed step over any network; of runs whose compute time is known."""
    known = [(place, row) for place, row in enumerate(rows) if row.step_at(_WIRE) is not None]
    if not known:
        return None
    x = [bits / 1e9 for bits in _BANDWIDTHS]
    traces: list[dict[str, Any]] = []
    for place, row in known:
        steps = [row.step_at(bits / 8) or 0.0 for bits in _BANDWIDTHS]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": row.name,
                "x": [rounded(value) for value in x],
                "y": [rounded(1e3 * value) for value in steps],
                "line": {"width": 2, **style_of(place)},
                "hovertemplate": "%{y:.3~g} ms at %{x:.3~g} Gb/s",
                **of_run(place),
            }
        )
    values = [value for trace in traces for value in trace["y"]]
    return Chart(
        "Computed step over bandwidth*",
        traces,
        layout(log_axis("Gb/s (log)", x), log_axis("ms of a step (log)", values)),
        height=_height(rows),
    )


_OVER_STEPS = {
    "encode_s": "Encoding",
    "decode_s": "Decoding",
    "wait_s": "Waiting",
}


def _over_steps(runs: Sequence[Run], name: str, label: str) -> Chart | None:
    """A step's part between the lines that counted."""
    traces: list[dict[str, Any]] = []
    for place, run in enumerate(runs):
        lines = [line for line in run.get("stats", []) if name in line["stats"]]
        steps, values = [], []
        for before, now in pairwise(lines):
            passed = now["step"] - before["step"]
            if passed > 0:
                steps.append(float(now["step"]))
                values.append(1e3 * (now["stats"][name] - before["stats"][name]) / passed)
        if not steps:
            continue
        x, y = thinned(steps, values)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name_of(run),
                "x": x,
                "y": y,
                "line": {"width": 1.5, **style_of(place)},
                "hovertemplate": "%{y:.3~g} ms at step %{x}",
                **of_run(place),
            }
        )
    if not traces:
        return None
    vertical = axis("ms of a step", rangemode="tozero")
    return Chart(f"{label} over steps", traces, layout(axis("step"), vertical))
