"""The figures of runs, and the tables that compare them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from lgreco.arguments import printable
from lgreco.errors import StateError
from lgreco.run_log import Line, Run, plans_in_effect

BANDWIDTHS = {"0.1 Gb/s": 0.1e9 / 8, "1 Gb/s": 1e9 / 8, "10 Gb/s": 10e9 / 8}  # bytes per second

EXPLANATIONS = {
    "kB/step": "sent by one rank, mean over the whole run: counted by the library (for dense: "
    "2(N-1)/N of the gradients), and read from the loopback interface's counter.",
    "ratio": "how many times fewer bytes than dense.",
    "plan vs uniform": "how many times fewer payload bytes L-GreCo's plans have than the uniform "
    "setting they start from, at no more summed error; mean over the steps that had a plan.",
    "step here": "a step, measured in this run.",
    "encode, decode, wait": "of a step, measured: encoding and decoding, and waiting in "
    "collectives, for the wire and for slower peers. Much of it is hidden behind the backward "
    "pass, so that they do not add up to a step.",
    "at ... Gb/s*": "a step, computed, not measured: compute + encode and decode + bytes / "
    "bandwidth, without overlap and latency. Compute is a forward and backward pass, the fastest "
    "that any of the runs measured.",
}


@dataclass(frozen=True)
class Summary:
    """The figures of one run, per step and rank; times in seconds, accuracy in percent. None: the
    log does not say."""

    name: str
    finished: bool
    steps: int
    accuracy: float | None
    loss: float | None
    training_loss: float | None
    counted: float | None
    loopback: float | None
    ratio: float | None
    plans: int
    plan_gain: float | None
    plan_gain_min: float | None
    within_budget: bool
    planning_s: float | None
    step_s: float
    compute_s: float | None
    encode_s: float | None
    decode_s: float | None
    check_s: float | None
    wait_s: float | None

    def step_at(self, bandwidth: float) -> float | None:
        """Computed seconds of a step over a link of `bandwidth` bytes per second."""
        if self.compute_s is None or self.counted is None:
            return None
        codec_s = (self.encode_s or 0.0) + (self.decode_s or 0.0)
        return self.compute_s + codec_s + self.counted / bandwidth


def summaries(runs: Sequence[Run]) -> list[Summary]:
    """One per run, finished or not. Raises StateError when one has no step yet.

    Ratios are against what a dense ring all-reduce of the same model sends.
    """
    return [_summary(run, _compute_seconds(run, runs)) for run in runs]


def _summary(run: Run, compute_s: float | None) -> Summary:
    end = _end_of(run)
    steps, stats = end["steps"], end.get("stats", {})
    sent = end.get("bytes_sent", stats.get("bytes_sent"))
    dense = dense_bytes(run)
    counted = dense if sent is None else sent / steps
    gains = _plan_gains(run, steps)
    return Summary(
        name=run["start"][0]["name"],
        finished="end" in run,
        steps=steps,
        accuracy=_last(run, "accuracy"),
        loss=_last(run, "loss"),
        training_loss=_training_loss(run),
        counted=counted,
        loopback=_each(end.get("loopback_bytes"), steps),
        ratio=dense / counted if dense and counted else _ratio_of(stats),
        plans=len(gains),
        plan_gain=_mean_gain(gains) if gains else None,
        plan_gain_min=min(gain for gain, _ in gains) if gains else None,
        within_budget=all(_is_within_budget(plan) for plan in plans_in_effect(run)),
        planning_s=stats.get("plan_s"),
        step_s=end["seconds"] / steps,
        compute_s=compute_s,
        encode_s=_each(stats.get("encode_s"), steps),
        decode_s=_each(stats.get("decode_s"), steps),
        check_s=_each(stats.get("check_s"), steps),
        wait_s=_each(stats.get("wait_s"), steps),
    )


def _each(total: float | None, steps: int) -> float | None:
    return None if total is None else total / steps


def _end_of(run: Run) -> Line:
    """Its `end` line, or what that would be if the run had ended by now. At least one step."""
    if "end" in run and run["end"][-1]["steps"] > 0:
        return run["end"][-1]
    if not run.get("step"):
        raise StateError(f"[report] the run '{run['start'][0]['name']}' has no step yet")
    last = run["step"][-1]
    counted = run.get("stats", [])[-1:]
    end: Line = {"steps": last["step"], "seconds": last["seconds"]}
    if counted and counted[0]["step"] > 0:
        share = last["step"] / counted[0]["step"]  # at the rate until there
        stats = {n: v for n, v in counted[0]["stats"].items() if isinstance(v, int | float)}
        end["stats"] = {name: value * share for name, value in stats.items()}
    return end


def _ratio_of(stats: dict[str, Any]) -> float | None:
    return stats["dense_bytes"] / stats["bytes_sent"] if stats.get("bytes_sent") else None


def _last(run: Run, name: str) -> float | None:
    """Of the evaluations, and of the run's end."""
    lines = [*run.get("evaluation", []), *run.get("end", [])]
    found = [line[name] for line in lines if line.get(name) is not None]
    return float(found[-1]) if found else None


def _training_loss(run: Run) -> float | None:
    losses = [line["loss"] for line in run.get("step", [])[-25:] if line["loss"] is not None]
    return sum(losses) / len(losses) if losses else None


def _compute_seconds(run: Run, runs: Sequence[Run]) -> float | None:
    """Of the runs that do the same work, the fastest: other programs only ever add time."""
    work = _work(run)
    ends = [other["end"][-1] for other in runs if "end" in other and _work(other) == work]
    return min((float(end["compute_s"]) for end in ends if "compute_s" in end), default=None)


def _work(run: Run) -> tuple[object, ...]:
    start = run["start"][0]
    values = [start.get(name) for name in ("data", "layers", "ranks")]
    return *values, start.get("settings", {}).get("batch")


def _is_within_budget(plan: Line) -> bool:
    return bool(plan.get("error", 0.0) <= plan.get("budget", math.inf))


def _plan_gains(run: Run, steps: int) -> list[tuple[float, int]]:
    """Per plan after the first, which is the uniform one: fewer bytes by, and steps it held."""
    plans = plans_in_effect(run)
    if not plans:
        return []
    first, *later = plans
    ends = [plan["step"] for plan in later[1:]] + [steps]
    return [
        (first["bytes"] / plan["bytes"], end - plan["step"])
        for plan, end in zip(later, ends[: len(later)], strict=True)
        if plan["bytes"] and end > plan["step"]
    ]


def _mean_gain(gains: Sequence[tuple[float, int]]) -> float:
    """Uniform bytes over plan bytes, both summed over the steps."""
    return sum(steps for _, steps in gains) / sum(steps / gain for gain, steps in gains)


def dense_bytes(run: Run) -> float | None:
    """Of a step, by one rank; None when the log has no shapes or ranks."""
    start = run["start"][0]
    if not start.get("layers") or not start.get("ranks"):
        return None
    elements: int = sum(math.prod(shape) for shape in start["layers"].values())
    ranks = int(start["ranks"])
    return 2 * (ranks - 1) / ranks * 4 * elements


Columns = dict[str, Callable[[Summary], str]]


def _shown(pattern: str, value: float | None, scale: float = 1.0) -> str:
    return "-" if value is None else pattern.format(scale * value)


def milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    value = 1e3 * seconds
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def _step_over(bandwidth: float) -> Callable[[Summary], str]:
    return lambda s: milliseconds(s.step_at(bandwidth))


RESULT_COLUMNS: Columns = {
    "steps": lambda s: f"{s.steps:,}" + ("" if s.finished else " so far"),
    "training loss": lambda s: _shown("{:.3f}", s.training_loss),
    "test accuracy": lambda s: _shown("{:.2f} %", s.accuracy),
    "test loss": lambda s: _shown("{:.3f}", s.loss),
    "kB/step counted": lambda s: _shown("{:,.1f}", s.counted, 1e-3),
    "kB/step loopback": lambda s: _shown("{:,.1f}", s.loopback, 1e-3),
    "ratio": lambda s: _shown("{:.1f}x", s.ratio),
    "plan vs uniform": lambda s: _shown("{:.2f}x", s.plan_gain),
}
_MOST_COLUMNS = 5  # of a table of 80 characters, beside the runs' names
TIME_COLUMNS: Columns = {
    "plan changes": lambda s: f"{s.plans}" if s.plans else "-",
    "planning total": lambda s: milliseconds(s.planning_s) if s.plans else "-",
    "step here": lambda s: milliseconds(s.step_s),
    "encode": lambda s: milliseconds(s.encode_s),
    "decode": lambda s: milliseconds(s.decode_s),
    "wait": lambda s: milliseconds(s.wait_s),
    **{f"at {name}*": _step_over(bandwidth) for name, bandwidth in BANDWIDTHS.items()},
}


def filled(columns: Columns, rows: Sequence[Summary]) -> dict[str, list[str]]:
    """Cells by column, without the columns of which no run says anything."""
    cells = {name: [cell(row) for row in rows] for name, cell in columns.items()}
    return {name: texts for name, texts in cells.items() if set(texts) != {"-"}}


def comparison_table(runs: Sequence[Run]) -> Group:
    """For printing with rich: tables that fit a terminal, and what they mean."""
    rows = summaries(runs)
    tables = [
        _screen_table(rows, part)
        for columns in (RESULT_COLUMNS, TIME_COLUMNS)
        for part in _parts(filled(columns, rows))
    ]
    notes = Table.grid(padding=(0, 2))
    for term, meaning in EXPLANATIONS.items():
        notes.add_row(Text(term), Text(meaning), style="dim")
    return Group(*tables, notes)


def _parts(cells: dict[str, list[str]]) -> Iterator[dict[str, list[str]]]:
    """As few tables as possible, of as many columns each as there can be."""
    columns = list(cells.items())
    tables = -(-len(columns) // _MOST_COLUMNS)
    for place in range(tables):
        yield dict(columns[place * len(columns) // tables : (place + 1) * len(columns) // tables])


def _screen_table(rows: Sequence[Summary], cells: dict[str, list[str]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", no_wrap=True)
    for column in cells:
        table.add_column("\n".join(column.rsplit(" ", 1)), justify="right", no_wrap=True)
    for place, row in enumerate(rows):
        table.add_row(Text(printable(row.name)), *(texts[place] for texts in cells.values()))
    return table
