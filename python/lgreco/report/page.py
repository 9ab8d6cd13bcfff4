"""Comparison of training runs from their logs: a table for the screen and an HTML page with plots.

The page is one file without outside resources. The logs are those of `lgreco.run_log`.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from lgreco.errors import StateError
from lgreco.report.curves import PLOTS
from lgreco.run_log import Run, plans_in_effect

BANDWIDTHS = {"0.1 Gb/s": 0.1e9 / 8, "1 Gb/s": 1e9 / 8, "10 Gb/s": 10e9 / 8}  # bytes per second

EXPLANATIONS = {
    "kB/step": "sent by one rank, mean over the whole run: counted by the library (for dense: "
    "2(N-1)/N of the gradients), and read from the loopback interface's counter.",
    "ratio": "how many times fewer bytes than dense.",
    "plan vs uniform": "how many times fewer payload bytes L-GreCo's plans have than the uniform "
    "setting they start from, at no more summed error; mean over the steps that had a plan.",
    "step here": "a step, measured on this machine, where the network costs next to nothing.",
    "at ... Gb/s*": "a step, computed, not measured: compute + encode and decode + bytes / "
    "bandwidth, without overlap and latency. Compute is a forward and backward pass, the fastest "
    "that any of the runs measured.",
}


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
    plan_gain: float | None
    plan_gain_min: float | None
    within_budget: bool
    planning_s: float
    step_s: float
    compute_s: float
    codec_s: float

    def step_at(self, bandwidth: float) -> float:
        """Computed seconds of a step over a link of `bandwidth` bytes per second."""
        return self.compute_s + self.codec_s + self.counted / bandwidth


def summaries(runs: Sequence[Run]) -> list[Summary]:
    """One per run. Raises StateError when one has not finished.

    Ratios are against what a dense ring all-reduce of the same model sends.
    """
    for run in runs:
        if "end" not in run:
            name = run["start"][0]["name"]
            raise StateError(f"[report] the run '{name}' has not finished: it has no 'end' line")
    return [_summary(run, _compute_seconds(run, runs)) for run in runs]


def _summary(run: Run, compute_s: float) -> Summary:
    end = run["end"][-1]
    steps, stats = end["steps"], end["stats"]
    counted = end["bytes_sent"] / steps
    gains = _plan_gains(run)
    return Summary(
        name=run["start"][0]["name"],
        accuracy=end["accuracy"],
        loss=end["loss"],
        counted=counted,
        loopback=end["loopback_bytes"] / steps,
        ratio=_dense_bytes(run) / counted,
        plans=len(gains),
        plan_gain=_mean_gain(gains) if gains else None,
        plan_gain_min=min(gain for gain, _ in gains) if gains else None,
        within_budget=all(plan["error"] <= plan["budget"] for plan in plans_in_effect(run)),
        planning_s=stats.get("plan_s", 0.0),
        step_s=end["seconds"] / steps,
        compute_s=compute_s,
        codec_s=(stats.get("encode_s", 0.0) + stats.get("decode_s", 0.0)) / steps,
    )


def _compute_seconds(run: Run, runs: Sequence[Run]) -> float:
    """Of the runs that do the same work, the fastest: other programs only ever add time."""
    work = _work(run)
    return min(float(other["end"][-1]["compute_s"]) for other in runs if _work(other) == work)


def _work(run: Run) -> tuple[object, ...]:
    start = run["start"][0]
    return start["data"], start["layers"], start["ranks"], start["settings"].get("batch")


def _plan_gains(run: Run) -> list[tuple[float, int]]:
    """Per plan after the first, which is the uniform one: fewer bytes by, and steps it held."""
    plans = plans_in_effect(run)
    if not plans:
        return []
    first, *later = plans
    ends = [plan["step"] for plan in later[1:]] + [run["end"][-1]["steps"]]
    return [
        (first["bytes"] / plan["bytes"], end - plan["step"])
        for plan, end in zip(later, ends[: len(later)], strict=True)
    ]


def _mean_gain(gains: Sequence[tuple[float, int]]) -> float:
    """Uniform bytes over plan bytes, both summed over the steps."""
    return sum(steps for _, steps in gains) / sum(steps / gain for gain, steps in gains)


def _dense_bytes(run: Run) -> float:
    start = run["start"][0]
    elements: int = sum(math.prod(shape) for shape in start["layers"].values())
    ranks = int(start["ranks"])
    return 2 * (ranks - 1) / ranks * 4 * elements


Columns = dict[str, Callable[[Summary], str]]


def _step_over(bandwidth: float) -> Callable[[Summary], str]:
    return lambda s: f"{1e3 * s.step_at(bandwidth):.0f} ms"


RESULT_COLUMNS: Columns = {
    "test accuracy": lambda s: f"{s.accuracy:.2f} %",
    "test loss": lambda s: f"{s.loss:.3f}",
    "kB/step counted": lambda s: f"{s.counted / 1e3:,.1f}",
    "kB/step loopback": lambda s: f"{s.loopback / 1e3:,.1f}",
    "ratio": lambda s: f"{s.ratio:.1f}x",
    "plan vs uniform": lambda s: f"{s.plan_gain:.2f}x" if s.plan_gain else "-",
}
TIME_COLUMNS: Columns = {
    "plan changes": lambda s: f"{s.plans}" if s.plans else "-",
    "planning total": lambda s: f"{1e3 * s.planning_s:.0f} ms" if s.plans else "-",
    "step here": lambda s: f"{1e3 * s.step_s:.0f} ms",
    **{f"at {name}*": _step_over(bandwidth) for name, bandwidth in BANDWIDTHS.items()},
}


COLUMNS: Columns = {"run": lambda s: s.name, **RESULT_COLUMNS, **TIME_COLUMNS}


def comparison_table(runs: Sequence[Run]) -> Group:
    """For printing with rich: two tables that fit 80 columns, and what they mean."""
    rows = summaries(runs)
    tables = [_screen_table(rows, columns) for columns in (RESULT_COLUMNS, TIME_COLUMNS)]
    notes = Table.grid(padding=(0, 2))
    for term, meaning in EXPLANATIONS.items():
        notes.add_row(Text(term), Text(meaning), style="dim")
    return Group(*tables, notes)


def _screen_table(rows: Sequence[Summary], columns: Columns) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", no_wrap=True)
    for column in columns:
        table.add_column("\n".join(column.rsplit(" ", 1)), justify="right")
    for row in rows:
        table.add_row(row.name, *(cell(row) for cell in columns.values()))
    return table


def write_report(runs: Sequence[Run], path: str | Path) -> Path:
    """Write the HTML page. Raises StateError on an empty list or an unfinished run."""
    if not runs:
        raise StateError("[report] there is no run to report")
    rows = summaries(runs)
    start = runs[0]["start"][0]
    steps = max(run["end"][-1]["steps"] for run in runs if "end" in run)
    title = f"{start['data']}, {start['ranks']} ranks, {steps:,} steps"
    figures = "".join(
        f"<section><h2>{html.escape(heading)}</h2><p>{html.escape(text)}</p>"
        f'<img alt="{html.escape(heading)}" src="data:image/png;base64,{_png(figure)}"></section>'
        for heading, text, figure in ((h, t, draw(runs)) for h, t, draw in PLOTS)
        if figure is not None
    )
    page = _PAGE.format(
        title=html.escape(title),
        headline=_headline(rows),
        table=_html_table(rows),
        figures=figures,
        explanations="".join(
            f"<dt>{html.escape(term)}</dt><dd>{html.escape(meaning)}</dd>"
            for term, meaning in EXPLANATIONS.items()
        ),
    )
    Path(path).write_text(page, encoding="utf-8")
    return Path(path)


def _headline(rows: Sequence[Summary]) -> str:
    boxes = [
        f"<div><span>{html.escape(s.name)}</span><br><b>{s.counted / 1e3:,.0f} kB</b> per step"
        f"<br>{_fewer(s)}<br>{s.accuracy:.2f} % accuracy</div>"
        for s in rows
    ]
    return "".join(boxes)


def _fewer(summary: Summary) -> str:
    return f"{summary.ratio:.1f}x fewer than dense" if summary.ratio > 1.05 else "not compressed"


def _html_table(rows: Sequence[Summary]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in COLUMNS)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell(s))}</td>" for cell in COLUMNS.values()) + "</tr>"
        for s in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _png(figure: Figure) -> str:
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
td {{ white-space: nowrap; }} th:first-child, td:first-child {{ text-align: left; }}
dl {{ display: grid; grid-template-columns: max-content auto; gap: .2rem 1rem; max-width: 60rem;
  font-size: .85rem; }} dt {{ font-weight: 600; }} dd {{ margin: 0; color: #51606f; }}
img {{ max-width: 100%; height: auto; }}
</style></head><body>
<h1>Gradient compression compared</h1><p>{title}</p>
<div class="boxes">{headline}</div>
<div class="scroll">{table}</div><dl>{explanations}</dl>
{figures}
</body></html>
"""
