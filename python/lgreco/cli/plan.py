"""`lgreco plan`: from recorded gradients or a cost table to a plan."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from lgreco import _core
from lgreco.cli.output import AsJson, print_json, print_table
from lgreco.codec import payload_bytes
from lgreco.cost_table import CostTable, cost_table
from lgreco.errors import ConfigError
from lgreco.methods import Method
from lgreco.methods import method as parse_method
from lgreco.plan import Plan
from lgreco.planner import Solution, solve


def plan(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Gradients as .npz (one array per layer), or a table as JSON with the keys names, "
            "levels, costs, errors (layers x levels).",
        ),
    ],
    reference: Annotated[str, typer.Option(help="The level whose error is the budget.")],
    level: Annotated[
        list[str] | None,
        typer.Option(help="A candidate; repeatable. Default: around the reference."),
    ] = None,
    alpha: Annotated[float, typer.Option(min=0, help="Budget in multiples of that error.")] = 1.0,
    solver: Annotated[str, typer.Option(help="exact, or dp (the paper's).")] = "exact",
    output: Annotated[Path | None, typer.Option(help="Where to save the plan.")] = None,
    json: AsJson = False,
) -> None:
    """Fewest bytes within the reference's error, one level per layer."""
    reference_method = parse_method(reference)
    table = _load_table(source, str(reference_method), level)
    if reference_method not in table.levels:
        raise ConfigError(f"[cli] {source} has no column for the reference {reference_method}")
    reference_column = table.levels.index(reference_method)
    references = [reference_column] * len(table.names)
    budget = alpha * float(np.nansum(table.errors[:, reference_column]))
    solution = solve(list(table.costs), list(table.errors), budget, references, solver)
    result = _as_plan(table, solution, budget)
    if output is not None:
        result.save(output)
    uniform = float(table.costs[:, reference_column].sum())
    if json:
        print_json({**result.to_dict(), "hash": result.hash, "reference_bytes": uniform})
        return
    _print(table, solution, result, reference_column, uniform)


def _load_table(source: Path, reference: str, levels: list[str] | None) -> CostTable:
    if source.suffix == ".json":
        return _table_from_json(source)
    try:
        with np.load(source, allow_pickle=False) as arrays:
            gradients = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"[cli] cannot read {source} as .npz gradients: {error}") from error
    spellings = levels or _core.neighbours(reference)
    methods = [parse_method(spelling) for spelling in [reference, *spellings]]
    return _resolved(gradients, list(dict.fromkeys(methods)))


def _resolved(gradients: dict[str, np.ndarray], levels: list[Method]) -> CostTable:
    """A cost table in which a level that does not suit a layer stands for dense, as in training."""
    table = cost_table(gradients, levels)
    for row, gradient in enumerate(gradients.values()):
        for column, level in enumerate(levels):
            shape = list(gradient.shape)
            if _core.resolve(str(level), shape) == "dense":
                table.costs[row, column] = payload_bytes(parse_method("dense"), shape)
                table.errors[row, column] = 0
    return table


def _table_from_json(source: Path) -> CostTable:
    try:
        values = json_module.loads(source.read_text(encoding="utf-8"))
        names = [str(name) for name in values["names"]]
        levels = [parse_method(spelling) for spelling in values["levels"]]
        costs = np.array(values["costs"], dtype=np.float64)
        errors = np.array(values["errors"], dtype=np.float64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"[cli] cannot read {source} as a cost table: {error!r}") from error
    if costs.shape != (len(names), len(levels)) or errors.shape != costs.shape:
        raise ConfigError(f"[cli] {source}: costs and errors must be layers x levels")
    return CostTable(names, levels, costs, errors)


def _as_plan(table: CostTable, solution: Solution, budget: float) -> Plan:
    levels = {name: table.levels[c] for name, c in zip(table.names, solution.choice, strict=True)}
    return Plan(
        levels=levels,
        bytes=solution.cost,
        error=solution.error,
        budget=budget,
        lower_bound=solution.lower_bound,
    )


def _print(
    table: CostTable, solution: Solution, result: Plan, reference: int, uniform: float
) -> None:
    rows = [
        [
            name,
            result[name] if table.errors[row, choice] else "dense",
            f"{table.costs[row, choice]:,.0f}",
            f"{table.costs[row, reference]:,.0f}",
            f"{table.errors[row, choice]:.4g}",
            f"{table.errors[row, reference]:.4g}",
        ]
        for row, (name, choice) in enumerate(zip(table.names, solution.choice, strict=True))
    ]
    columns = ["layer", "level", "bytes", "reference", "error", "reference"]
    print_table(f"{len(rows)} layers, reference {table.levels[reference]}", columns, rows)
    gap = result.bytes / result.lower_bound - 1 if result.lower_bound else 0.0
    print(
        f"bytes {result.bytes:,.0f}, reference {uniform:,.0f}: {uniform / result.bytes:.2f}x fewer"
    )
    print(f"error {result.error:.6g} within the budget {result.budget:.6g}")
    print(f"no plan has fewer than {result.lower_bound:,.0f} bytes: gap {100 * gap:.3f} %")
