"""`lgreco inspect`: what a file of ours holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lgreco.cli.output import AsJson, console, print_json, print_table, show
from lgreco.cli.plan_view import gap, layers_in_one, print_plan
from lgreco.errors import StateError
from lgreco.files import require_regular_file
from lgreco.plan import Plan
from lgreco.report import comparison_table, summaries
from lgreco.run_log import Line, read_run_log


def inspect(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="A plan, a saved state_dict(), or a run's log.")
    ],
    json: AsJson = False,
) -> None:
    """Show a plan, a checkpoint or a run's log."""
    if not source.exists():
        raise StateError(f"[cli] {source}: no such file")
    if source.suffix == ".jsonl":
        _show_log(source, json)
    elif source.suffix == ".json":
        _show_plan(Plan.load(source), json)
    else:
        _show_state(source, json)


def _show_plan(plan: Plan, as_json: bool) -> None:
    if as_json:
        print_json({**plan.to_dict(), "hash": plan.hash, "gap": gap(plan)})
        return
    print_plan(plan)


def _show_state(source: Path, as_json: bool) -> None:
    import torch

    try:
        state = _state_in(
            torch.load(require_regular_file(source), map_location="cpu", weights_only=True)
        )
        travel_dense = [n for n in state["layers"] if state["plan"]["levels"][n] == "dense"]
        rows = [
            [
                name,
                state["plan"]["levels"][name],
                f"{layer['residual'].norm().item():.4g}",
                "x".join(map(str, layer["factor"].shape)) if layer["factor"].numel() else "-",
            ]
            for name, layer in state["layers"].items()
            if name not in travel_dense
        ]
        if travel_dense:
            rows.append([layers_in_one(len(travel_dense)), "dense", "-", "-"])
        whose = ("portable",) if "portable" in state else ("rank", "size")
        summary = {key: state[key] for key in ("format", *whose, "step", "stats")}
    except Exception as error:  # torch raises many types for a file that is no checkpoint
        raise StateError(f"[cli] {source} is no saved state_dict(): {error}") from error
    if as_json:
        print_json({**summary, "plan": state["plan"]})
        return
    of = "all ranks" if "portable" in state else f"rank {state['rank']} of {state['size']}"
    title = f"State of {of} at step {state['step']}"
    print_table(title, ["layer", "level", "residual norm", "warm factor"], rows)
    if state["plan"].get("estimates"):
        print_plan(Plan.from_dict(state["plan"]))


def _state_in(saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """`saved` itself, or what is under one of its keys, as in examples/resume.py."""
    for state in (saved, *saved.values()):
        if isinstance(state, Mapping) and {"format", "plan", "layers"} <= state.keys():
            return state
    raise ValueError("it holds no state of a Compression")


def _show_log(source: Path, as_json: bool) -> None:
    run = read_run_log(source)
    start = run["start"][0]
    summary = vars(summaries([run])[0]) if run.get("step") or "end" in run else {}
    if as_json:
        plans = run.get("plan", [])
        last = plans[-1] if plans else None
        print_json({"start": start, "plans": len(plans), "last_plan": last, "summary": summary})
        return
    steps = run["step"][-1]["step"] if run.get("step") else 0
    ranks = f"{start['ranks']} ranks" if start.get("ranks") else ""
    about = [start.get("data", ""), ranks, f"{steps} steps", start.get("date", "")]
    show(f"Run '{start['name']}': {', '.join(filter(None, about))}")
    rows = [
        [plan["step"], plan["version"], f"{plan['bytes']:,.0f}", _level_counts(plan)]
        for plan in run.get("plan", [])
    ]
    print_table("Plans", ["from step", "version", "bytes", "levels"], rows)
    if run.get("plan") and run["plan"][-1].get("estimates"):
        print_plan(Plan.from_dict(run["plan"][-1]))
    if summary:
        console().print(comparison_table([run]))
    if "end" not in run:
        show("The run has not finished.")


def _level_counts(plan: Line) -> str:
    counts = Counter(plan["levels"].values())
    return ", ".join(f"{count} x {level}" for level, count in sorted(counts.items()))
