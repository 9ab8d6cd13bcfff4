"""The planner on plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lgreco import _core
from lgreco.arguments import (
    is_list,
    require_number,
    require_real_array,
    require_text,
    require_whole,
    shown,
)
from lgreco.errors import ConfigError


@dataclass(frozen=True)
class Solution:
    """A choice of one candidate per layer.

    Attributes:
        choice: int64, one index per layer.
        cost: total cost.
        error: total error of the layers that have a finite one.
        lower_bound: no choice within the budget costs less.
        feasible: `error` is within the budget.
        fallback_layers: layers without any finite error; they keep their reference (or cheapest).
    """

    choice: np.ndarray
    cost: float
    error: float
    lower_bound: float
    feasible: bool
    fallback_layers: list[int]


def solve(
    costs: Sequence[np.ndarray],
    errors: Sequence[np.ndarray],
    budget: float,
    reference: Sequence[int] | None = None,
    solver: str = "exact",
) -> Solution:
    """Least total cost with total error <= `budget`, one candidate per layer.

    `costs` and `errors` hold one 1-D array per layer, candidates in any order; `reference` one
    index per layer. When the reference is within the budget, the result never costs more. The
    budget holds for the given numbers exactly. Candidates with NaN or infinite error are never
    chosen. `solver` is "exact", or "dp" for the paper's dynamic programme.

    Raises ConfigError on arrays of different length, empty layers, negative or non-finite costs,
    negative errors, a NaN budget, a reference out of range, an unknown solver.
    """
    require_text("[planner] solver", solver)
    for name, rows in (("costs", costs), ("errors", errors)):
        if not is_list(rows):
            raise ConfigError(f"[planner] {name} must be a list of arrays, not {shown(rows)}")
    if reference is not None and not is_list(reference):
        raise ConfigError(f"[planner] reference must be a list of indices, not {shown(reference)}")
    if reference is not None and len(reference) != len(costs):
        raise ConfigError(
            f"[planner] {len(costs)} rows of costs but {len(reference)} reference indices"
        )
    if len(costs) != len(errors):
        raise ConfigError(f"[planner] {len(costs)} rows of costs but {len(errors)} of errors")
    result = _core.solve(
        [_row("costs", i, row) for i, row in enumerate(costs)],
        [_row("errors", i, row) for i, row in enumerate(errors)],
        require_number("[planner] budget", budget),
        None if reference is None else [_index(i) for i in reference],
        solver,
    )
    return Solution(
        choice=np.asarray(result["choice"], dtype=np.int64),
        cost=result["cost"],
        error=result["error"],
        lower_bound=result["lower_bound"],
        feasible=result["feasible"],
        fallback_layers=result["fallback_layers"],
    )


def _row(kind: str, layer: int, row: np.ndarray) -> np.ndarray:
    array = require_real_array(f"[planner] layer {layer}: {kind}", row).astype(np.float64)
    if array.ndim != 1:
        raise ConfigError(f"[planner] layer {layer}: {kind} must be a 1-D array")
    return array


def _index(value: int) -> int:
    require_whole("[planner] a reference index", value, most=2**31 - 1)
    return int(value)
