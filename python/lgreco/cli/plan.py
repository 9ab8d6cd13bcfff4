"""`lgreco plan`: from recorded gradients or a cost table to a plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lgreco import _core
from lgreco.cli.level_table import load_level_table
from lgreco.cli.output import AsJson, print_json, print_table, show
from lgreco.cli.plan_view import MEASURES, compared, gap, print_bound
from lgreco.errors import ConfigError
from lgreco.methods import Method
from lgreco.methods import method as parse_method
from lgreco.plan import Plan
from lgreco.policies import default_budget


def plan(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Gradients as .npz (one array per layer), or a table as JSON with the keys names, "
            "levels, costs, errors (layers x levels) and, if known, norms (one a layer).",
        ),
    ],
    reference: Annotated[str, typer.Option(help="The level whose error is the budget.")],
    level: Annotated[
        list[str] | None,
        typer.Option(help="A candidate; repeatable. Default: what --levels says."),
    ] = None,
    levels: Annotated[
        str, typer.Option(help="same: the reference's own family. mixed: all families.")
    ] = "same",
    budget: Annotated[
        str | None,
        typer.Option(
            help="What is summed over the layers: norm (of the error), squared (norms), or debt "
            "(what error feedback still owes of three gradients, squared). "
            "Default: debt with --levels mixed, otherwise norm."
        ),
    ] = None,
    alpha: Annotated[float, typer.Option(min=0, help="Budget in multiples of that sum.")] = 1.0,
    solver: Annotated[str, typer.Option(help="exact, or dp (the paper's).")] = "exact",
    ranks: Annotated[
        int, typer.Option(min=1, help="How many sum the layers, in as many pieces; for topk.")
    ] = 2,
    output: Annotated[Path | None, typer.Option(help="Where to save the plan.")] = None,
    json: AsJson = False,
) -> None:
    """Fewest bytes within the reference's error, one level per layer."""
    reference_method = parse_method(reference)
    budget = budget or default_budget(levels)
    candidates = _candidates(reference_method, levels, level)
    table = load_level_table(source, reference_method, candidates, ranks)
    values, within_budget = _core.solve_plan(table, budget, alpha, solver)
    planned = Plan.from_dict(values)
    dense_is_known = all(row["dense"] is not None for row in table)
    result = planned if dense_is_known else replace(planned, estimates={})
    if output is not None:
        result.save(output)
    reference_bytes = sum(estimate.reference.bytes for estimate in planned.estimates.values())
    if json:
        print_json(
            {
                **result.to_dict(),
                "hash": result.hash,
                "reference_bytes": reference_bytes,
                "gap": gap(result),
                "within_budget": within_budget,
            }
        )
        return
    _print(planned, f"{len(table)} layers, reference {reference_method}")
    show(f"bytes {planned.bytes:,.0f}, {compared(planned.bytes, reference_bytes)}")
    within = "within" if within_budget else "EXCEEDS"
    show(f"{MEASURES[budget]} {planned.error:.6g} {within} the budget {planned.budget:.6g}")
    print_bound(planned)


def _candidates(reference: Method, levels: str, explicit: list[str] | None) -> list[Method]:
    if levels not in ("same", "mixed"):
        raise ConfigError(f"[cli] --levels is {levels!r}; it must be 'same' or 'mixed'")
    mixed = _core.mixed_levels(str(reference)) if levels == "mixed" else []
    return [parse_method(spelling) for spelling in explicit or mixed]


def _print(plan: Plan, title: str) -> None:
    rows = [
        [
            name,
            plan[name],
            f"{estimate.chosen.bytes:,.0f}",
            f"{estimate.reference.bytes:,.0f}",
            f"{estimate.chosen.error:.4g}",
            f"{estimate.reference.error:.4g}",
            estimate.reason,
        ]
        for name, estimate in plan.estimates.items()
    ]
    columns = ["layer", "level", "bytes", "reference", "error", "reference", "why"]
    print_table(title, columns, rows, text_columns=["level", "why"])
