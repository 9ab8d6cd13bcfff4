"""The HTML page: one file that needs nothing else, and no network."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from lgreco.errors import StateError
from lgreco.files import write_whole_file
from lgreco.report import curves, plans
from lgreco.report.about import facts
from lgreco.report.charts import HEIGHT, INK, Chart, style_of
from lgreco.report.summary import (
    EXPLANATIONS,
    RESULT_COLUMNS,
    TIME_COLUMNS,
    Summary,
    filled,
    milliseconds,
    summaries,
)
from lgreco.report.times import times
from lgreco.run_log import Run
from lgreco.run_log.writing import finite


@dataclass(frozen=True)
class _Section:
    heading: str
    text: str
    draw: Callable[[Sequence[Run]], list[Chart]]


SECTIONS = (
    _Section(
        "Training loss",
        f"Mean over a tenth of the steps, {curves.SMOOTHING_STEPS} at most, on rank 0. Seconds are "
        "of training, without evaluations.",
        curves.loss,
    ),
    _Section("Evaluations", "As the training loop made them.", curves.metrics),
    _Section(
        "Where the time goes",
        "Encoding, decoding and waiting (in collectives, for the wire and for slower peers) go on "
        "beside the backward pass and each other: they do not add up to a step. What has a star is "
        "computed from bytes and bandwidth, not measured.",
        times,
    ),
    _Section(
        "Bytes and error per layer",
        "Payload of each compressed layer under the last plan and under the reference level, and, "
        "where the plan was made from measurements, what each loses of the layer. A plan sends "
        "less where that does little harm, and more where it does much; the sum of the harm stays "
        "within the budget. What loses nothing has no mark. Layers that always travel dense "
        "(norms, biases, small matrices) are not shown.",
        plans.layers,
    ),
    _Section(
        "The plan over time",
        "Bits an element of each compressed layer under each plan (colours are logarithmic); the "
        "first plan is the one of step 0. In the cells: the level's parameter (r rank, q bits, "
        "k density, when families are mixed).",
        plans.plans,
    ),
)

_LAYOUT = {
    "font": {"family": "system-ui, 'DejaVu Sans', sans-serif", "size": 12, "color": INK},
    "margin": {"l": 56, "r": 28, "t": 28, "b": 48},
    "paper_bgcolor": "white",
    "plot_bgcolor": "white",
    "hovermode": "closest",
}
_AXIS = {
    "gridcolor": "#e6ebf1",
    "linecolor": "#b8c2cd",
    "zeroline": False,
    "ticks": "outside",
    "tickcolor": "#b8c2cd",
    "separatethousands": True,
    "exponentformat": "none",
    "automargin": True,
}


def write_report(runs: Sequence[Run], path: str | Path) -> Path:
    """Write the HTML page. Raises StateError on an empty list, a run without a step, and when
    `path` cannot be written."""
    if not runs:
        raise StateError("[report] there is no run to report")
    rows = summaries(runs)
    sections = [(section, section.draw(runs)) for section in SECTIONS]
    charts = [chart for _, of_section in sections for chart in of_section]
    places = iter(range(len(charts)))
    environment = Environment(
        loader=PackageLoader("lgreco.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html").render(
        title=_title(runs, rows),
        runs=[
            {"colour": style_of(place)["color"], "headline": _headline(row), "row": row}
            for place, row in enumerate(rows)
        ],
        figures=filled({**RESULT_COLUMNS, **TIME_COLUMNS}, rows),
        explanations=EXPLANATIONS,
        facts=facts(runs),
        sections=[
            (section, _by_height([(next(places), chart) for chart in of_section]))
            for section, of_section in sections
            if of_section
        ],
        charts=_as_script([{"data": c.traces, "layout": _layout_of(c)} for c in charts]),
        plotly=Markup(get_plotlyjs()),
    )
    write_whole_file(path, page)
    return Path(path)


def _by_height(charts: list[tuple[int, Chart]]) -> list[tuple[bool, list[tuple[int, Chart]]]]:
    """Rows of equals: whether they are tall, and they."""
    rows = groupby(charts, key=lambda placed: placed[1].height > HEIGHT)
    return [(is_tall, list(row)) for is_tall, row in rows]


def _layout_of(chart: Chart) -> dict[str, object]:
    axes = {name: {**_AXIS, **chart.layout[name]} for name in ("xaxis", "yaxis")}
    return {**_LAYOUT, **chart.layout, **axes, "height": chart.height}


def _as_script(values: object) -> Markup:
    """JSON that no text in it can end; null for figures that no float can hold."""
    text = json.dumps(finite(values), separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))


def _title(runs: Sequence[Run], rows: Sequence[Summary]) -> str:
    """What all runs have in common."""
    starts = [run["start"][0] for run in runs]
    data = {str(start.get("data", "")) for start in starts}
    ranks = {start.get("ranks") for start in starts}
    parts = []
    if len(data) == 1 and "" not in data:
        parts.append(data.pop())
    if len(ranks) == 1 and None not in ranks:
        count = ranks.pop()
        parts.append(f"{count} rank" + ("" if count == 1 else "s"))
    parts.append(f"{max(row.steps for row in rows):,} steps")
    return ", ".join(parts)


def _bytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} kB"


def _headline(row: Summary) -> tuple[str, list[str]]:
    """The figure that counts most of those that there are, and others."""
    facts = []
    if row.ratio is not None:
        facts.append(f"{row.ratio:.1f}x fewer than dense" if row.ratio > 1.05 else "not compressed")
    if row.accuracy is not None:
        facts.append(f"{row.accuracy:.2f} % accuracy")
    elif row.training_loss is not None:
        facts.append(f"training loss {row.training_loss:.3f}")
    step = milliseconds(row.step_s)
    if row.counted is None:
        return f"{step} per step", facts
    return f"{_bytes(row.counted)} per step", [*facts, f"{step} per step here"]
