"""Comparison of training runs from their logs: a table for the screen and an HTML page with plots.

The page is one file without outside resources. The logs are those of `lgreco.run_log`.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from lgreco.errors import StateError
from lgreco.report_plots import PLOTS

Run = dict[str, list[dict]]
BANDWIDTHS = {"0.1 Gb/s": 0.1e9 / 8, "1 Gb/s": 1e9 / 8, "10 Gb/s": 10e9 / 8}  # bytes per second

EXPLANATION = (
    "kB/step: sent by one rank; counted by the library (for dense: 2(N-1)/N of the gradients), and "
    "read from the loopback interface's counter. Ratio: against the dense run. Bytes and times are "
    "means over the whole run, the steps before the first plan included. "
    "Planning: over the whole run. * Step times at 0.1, 1 and 10 Gb/s are computed, not "
    "measured: compute + encode/decode + bytes / bandwidth, without overlap and latency; "
    "compute is a step's forward and backward pass."
)


@dataclass(frozen=True)
class Summary:
    """The figures of one finished run, per step and rank; times in seconds."""

    name: str
    accuracy: float
    loss: float
    counted: float
    loopback: float
    ratio: float
    plans: int
    planning_s: float
    step_s: float
    compute_s: float
    codec_s: float

    def step_at(self, bandwidth: float) -> float:
        """Computed seconds of a step over a link of `bandwidth` bytes per second."""
        return self.compute_s + self.codec_s + self.counted / bandwidth


def summarise(run: Run, dense_bytes: float) -> Summary:
    """Raises StateError when the run has not finished."""
    name = run["start"][0]["name"]
    if "end" not in run:
        raise StateError(f"[report] the run '{name}' has not finished: its log has no 'end' line")
    end = run["end"][-1]
    steps, stats = end["steps"], end["stats"]
    counted = end["bytes_sent"] / steps
    return Summary(
        name=name,
        accuracy=end["accuracy"],
        loss=end["loss"],
        counted=counted,
        loopback=end["loopback_bytes"] / steps,
        ratio=dense_bytes / counted,
        plans=max(0, len(run.get("plan", [])) - 1),
        planning_s=stats.get("plan_s", 0.0),
        step_s=end["seconds"] / steps,
        compute_s=end["compute_s"],
        codec_s=(stats.get("encode_s", 0.0) + stats.get("decode_s", 0.0)) / steps,
    )


def summaries(runs: Sequence[Run]) -> list[Summary]:
    """One per run; ratios are against what a dense ring all-reduce of the same model sends."""
    return [summarise(run, _dense_bytes(run)) for run in runs]


def _dense_bytes(run: Run) -> float:
    start = run["start"][0]
    elements = 0
    for shape in start["layers"].values():
        count = 1
        for extent in shape:
            count *= extent
        elements += count
    return 2 * (start["ranks"] - 1) / start["ranks"] * 4 * elements


RESULT_COLUMNS: dict[str, Callable[[Summary], str]] = {
    "test accuracy": lambda s: f"{s.accuracy:.2f} %",
    "test loss": lambda s: f"{s.loss:.3f}",
    "kB/step counted": lambda s: f"{s.counted / 1e3:,.1f}",
    "kB/step loopback": lambda s: f"{s.loopback / 1e3:,.1f}",
    "ratio": lambda s: f"{s.ratio:.1f}x",
}
TIME_COLUMNS: dict[str, Callable[[Summary], str]] = {
    "plan changes": lambda s: f"{s.plans}",
    "planning": lambda s: f"{1e3 * s.planning_s:.0f} ms",
    "step here": lambda s: f"{1e3 * s.step_s:.0f} ms",
    **{
        f"{name} *": lambda s, b=bandwidth: f"{1e3 * s.step_at(b):.0f} ms"
        for name, bandwidth in BANDWIDTHS.items()
    },
}


COLUMNS = {"run": lambda s: s.name, **RESULT_COLUMNS, **TIME_COLUMNS}


def comparison_table(runs: Sequence[Run]) -> Group:
    """For printing with rich: two tables that fit 80 columns, and what they mean."""
    rows = summaries(runs)
    tables = [_screen_table(rows, columns) for columns in (RESULT_COLUMNS, TIME_COLUMNS)]
    return Group(*tables, Text(EXPLANATION, style="dim"))


def _screen_table(rows: Sequence[Summary], columns: dict[str, Callable]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("run", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row.name, *(cell(row) for cell in columns.values()))
    return table


def markdown_table(runs: Sequence[Run]) -> str:
    """The same as one table for a page."""
    rows = [list(COLUMNS), ["---"] + ["--:"] * (len(COLUMNS) - 1)]
    rows += [[cell(summary) for cell in COLUMNS.values()] for summary in summaries(runs)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def write_report(runs: Sequence[Run], path: str | Path) -> Path:
    """Write the HTML page. Raises StateError on an empty list or an unfinished run."""
    if not runs:
        raise StateError("[report] there is no run to report")
    start = runs[0]["start"][0]
    title = f"{start['data']}, {start['ranks']} ranks"
    figures = "".join(
        f"<section><h2>{html.escape(heading)}</h2><p>{html.escape(text)}</p>"
        f'<img alt="{html.escape(heading)}" src="data:image/png;base64,{_png(figure)}"></section>'
        for heading, text, figure in ((h, t, draw(runs)) for h, t, draw in PLOTS)
        if figure is not None
    )
    page = _PAGE.format(
        title=html.escape(title),
        headline=_headline(runs),
        table=_html_table(runs),
        figures=figures,
        explanation=html.escape(EXPLANATION),
    )
    Path(path).write_text(page, encoding="utf-8")
    return Path(path)


def _headline(runs: Sequence[Run]) -> str:
    boxes = [
        f"<div><b>{s.ratio:.1f}x</b> fewer bytes<br>{s.accuracy:.2f} % accuracy<br>"
        f"<span>{html.escape(s.name)}</span></div>"
        for s in summaries(runs)
    ]
    return "".join(boxes)


def _html_table(runs: Sequence[Run]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in COLUMNS)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell(s))}</td>" for cell in COLUMNS.values()) + "</tr>"
        for s in summaries(runs)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _png(figure: object) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>lgreco: {title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1d2733; margin: 2rem auto;
  max-width: 72rem; padding: 0 1rem; }}
h1 {{ margin-bottom: 0; }} h2 {{ margin: 2.5rem 0 0; }}
p {{ color: #51606f; max-width: 60rem; }}
.boxes {{ display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.5rem 0; }}
.boxes div {{ flex: 1 1 12rem; background: #f2f5f9; border-radius: .6rem; padding: .8rem 1rem; }}
.boxes b {{ font-size: 1.6rem; }} .boxes span {{ color: #51606f; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .85rem; }}
th, td {{ padding: .35rem .6rem; text-align: right; border-bottom: 1px solid #dde4ec; }}
th:first-child, td:first-child {{ text-align: left; white-space: nowrap; }}
img {{ max-width: 100%; height: auto; }}
</style></head><body>
<h1>Gradient compression compared</h1><p>{title}</p>
<div class="boxes">{headline}</div>
<div class="scroll">{table}</div><p>{explanation}</p>
{figures}
</body></html>
"""
