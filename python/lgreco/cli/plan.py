"""`lgreco plan`: from recorded gradients or a cost table to a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lgreco import _core
from lgreco.cli.level_plan import LevelPlan, plan_levels
from lgreco.cli.level_table import LevelTable, load_level_table
from lgreco.cli.output import AsJson, print_json, print_table
from lgreco.cli.plan_view import MEASURES, compared, gap, print_bound
from lgreco.errors import ConfigError
from lgreco.methods import Method
from lgreco.methods import method as parse_method
from lgreco.policies import default_budget

_FAMILIES = {"same": _core.neighbours, "mixed": _core.mixed_levels}


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
    if reference_method not in table.costs.levels:
        raise ConfigError(f"[cli] {source} has no column for the reference {reference_method}")
    column = table.costs.levels.index(reference_method)
    planned = plan_levels(table, column, budget, alpha, solver)
    if output is not None:
        planned.plan.save(output)
    reference_bytes = float(table.costs.costs[:, column].sum())
    if json:
        print_json(
            {
                **planned.plan.to_dict(),
                "hash": planned.plan.hash,
                "reference_bytes": reference_bytes,
                "gap": gap(planned.plan),
                "within_budget": planned.solution.feasible,
            }
        )
        return
    _print(table, planned, reference_bytes, budget)


def _candidates(reference: Method, levels: str, explicit: list[str] | None) -> list[Method]:
    if levels not in _FAMILIES:
        raise ConfigError(f"[cli] --levels is {levels!r}; it must be 'same' or 'mixed'")
    return [parse_method(spelling) for spelling in explicit or _FAMILIES[levels](str(reference))]


def _print(table: LevelTable, planned: LevelPlan, reference_bytes: float, budget: str) -> None:
    result, reference = planned.plan, planned.reference
    costs, errors = table.costs.costs, table.costs.errors
    rows = [
        [
            name,
            result[name],
            f"{costs[row, chosen]:,.0f}",
            f"{costs[row, reference]:,.0f}",
            f"{errors[row, chosen]:.4g}",
            f"{errors[row, reference]:.4g}",
            planned.reasons[row],
        ]
        for row, (name, chosen) in enumerate(
            zip(table.costs.names, planned.solution.choice, strict=True)
        )
    ]
    columns = ["layer", "level", "bytes", "reference", "error", "reference", "why"]
    title = f"{len(rows)} layers, reference {table.costs.levels[reference]}"
    print_table(title, columns, rows, text_columns=["level", "why"])
    print(f"bytes {result.bytes:,.0f}, {compared(result.bytes, reference_bytes)}")
    within = "within" if planned.solution.feasible else "EXCEEDS"
    print(f"{MEASURES[budget]} {result.error:.6g} {within} the budget {result.budget:.6g}")
    print_bound(result)
