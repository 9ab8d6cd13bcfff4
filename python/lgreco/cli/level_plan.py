"""From a table of levels to a plan, with what each choice costs and why it was made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lgreco.cli.level_table import LevelTable
from lgreco.plan import Estimate, LayerEstimate, Plan
from lgreco.planner import Solution, solve


@dataclass(frozen=True)
class LevelPlan:
    """A plan and what came with it.

    Attributes:
        plan: with estimates when the table knows the dense size of its layers.
        solution: its `choice` and whether it is within the budget.
        reference: column of the reference in the table.
        reasons: one a layer.
    """

    plan: Plan
    solution: Solution
    reference: int
    reasons: list[str]


def plan_levels(
    table: LevelTable, reference: int, budget: str, alpha: float, solver: str
) -> LevelPlan:
    """Fewest bytes within `alpha` times what the column `reference` does by the measure `budget`.

    Raises ConfigError as `solve` and `LevelTable.harms` do.
    """
    costs, names = table.costs.costs, table.costs.names
    harms = _with_layers_that_say_nothing(table, table.harms(budget, reference), reference)
    allowed = alpha * float(np.nansum(harms[:, reference]))
    solution = solve(list(costs), list(harms), allowed, [reference] * len(names), solver)
    reasons = [_reason(table, row, c, reference) for row, c in enumerate(solution.choice)]
    plan = Plan(
        levels={
            name: methods[c]
            for name, methods, c in zip(names, table.resolved, solution.choice, strict=True)
        },
        bytes=solution.cost,
        error=solution.error,
        budget=allowed,
        lower_bound=solution.lower_bound,
        estimates=_estimates(table, solution, reference, reasons),
    )
    return LevelPlan(plan, solution, reference, reasons)


def _with_layers_that_say_nothing(
    table: LevelTable, harms: np.ndarray, reference: int
) -> np.ndarray:
    """Layers that are zero or not finite keep the reference, at no harm."""
    silent = np.array([_says_nothing(table, row) for row in range(len(harms))], dtype=bool)
    kept = np.where(np.arange(harms.shape[1]) == reference, 0.0, np.inf)
    return np.where(silent[:, None], kept, harms)


def _says_nothing(table: LevelTable, row: int) -> bool:
    if table.norms is None:
        return False
    return table.norms[row] == 0 or not np.isfinite(table.norms[row])


def _reason(table: LevelTable, row: int, chosen: int, reference: int) -> str:
    if table.norms is not None and table.norms[row] == 0:
        return "zero gradient: the reference"
    if not np.isfinite(table.costs.errors[row]).any():
        return "not finite: the reference"
    if table.resolved[row][chosen] == table.resolved[row][reference]:
        return "the reference"
    costs = table.costs.costs[row]
    if costs[chosen] > costs[reference]:
        return "more bytes here save more elsewhere"
    return "fewest bytes within the budget"


def _estimates(
    table: LevelTable, solution: Solution, reference: int, reasons: list[str]
) -> dict[str, LayerEstimate]:
    """Of the layers with finite errors; empty when the dense sizes are not known."""
    if table.dense_bytes is None:
        return {}
    costs, errors = table.costs.costs, table.costs.errors
    return {
        name: LayerEstimate(
            reason=reasons[row],
            chosen=Estimate(float(costs[row, chosen]), float(errors[row, chosen]), 0.0),
            reference=Estimate(float(costs[row, reference]), float(errors[row, reference]), 0.0),
            dense=Estimate(float(table.dense_bytes[row]), 0.0, 0.0),
        )
        for row, (name, chosen) in enumerate(zip(table.costs.names, solution.choice, strict=True))
        if np.isfinite(errors[row, [chosen, reference]]).all()
    }
