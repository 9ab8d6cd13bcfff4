"""Plans of a given payload: least harm by a measure, found through the planner's budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lgreco import CostTable, Method, _core, cost_table, method, solve
from lgreco.codec import payload_bytes

BISECTIONS = 60


def in_effect(level: Method, shape: Sequence[int]) -> Method:
    """What the library makes of a level: layers that it does not suit travel dense."""
    return method(_core.resolve(str(level), list(shape)))


def table_of(gradients: Mapping[str, np.ndarray], levels: Sequence[Method]) -> CostTable:
    """The cost table with levels in effect."""
    rows = [
        cost_table({name: gradient}, [in_effect(level, gradient.shape) for level in levels])
        for name, gradient in gradients.items()
    ]
    costs = np.vstack([row.costs for row in rows])
    errors = np.vstack([row.errors for row in rows])
    return CostTable(list(gradients), list(levels), costs, errors)


def uniform_plan(shapes: Mapping[str, Sequence[int]], level: Method) -> dict[str, Method]:
    return {name: in_effect(level, shape) for name, shape in shapes.items()}


def payload(shapes: Mapping[str, Sequence[int]], plan: Mapping[str, Method]) -> int:
    """Bytes of all layers."""
    return sum(payload_bytes(level, shapes[name]) for name, level in plan.items())


def dense_payload(table: CostTable) -> float:
    """Bytes of the whole model in float32."""
    return float(table.costs[:, [str(level) for level in table.levels].index("dense")].sum())


def plan_of_ratio(table: CostTable, harm: np.ndarray, ratio: float) -> dict[str, Method] | None:
    """The least budget whose plan is `ratio` times smaller than dense; None if none is."""
    target = dense_payload(table) / ratio
    costs = list(table.costs)
    errors = list(np.where(np.isfinite(harm), harm, np.inf))
    low, high = 0.0, float(np.where(np.isfinite(harm), harm, 0).max(axis=1).sum()) * (1 + 1e-9)
    best = solve(costs, errors, high)
    if best.cost > target:
        return None
    positive = harm[np.isfinite(harm) & (harm > 0)]
    low = float(positive.min()) / 2
    for _ in range(BISECTIONS):
        middle = float(np.sqrt(low * high))
        solution = solve(costs, errors, middle)
        if solution.feasible and solution.cost <= target:
            best, high = solution, middle
        else:
            low = middle
    return {
        name: table.levels[choice] for name, choice in zip(table.names, best.choice, strict=True)
    }


def levels_on(table: CostTable, plan: dict[str, Method]) -> np.ndarray:
    """Column of each layer's level."""
    columns = {str(level): column for column, level in enumerate(table.levels)}
    return np.array([columns[str(plan[name])] for name in table.names])
