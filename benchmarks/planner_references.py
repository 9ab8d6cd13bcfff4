"""What the planner is compared with: a dynamic programme in NumPy, and HiGHS."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from benchmarks.planner_instances import Instance

SCALE = 1e5  # HiGHS has absolute tolerances, of 1e-6 and less


def numpy_dp(instance: Instance, cells: int = 10_000) -> np.ndarray:
    """The paper's dynamic programme over the error axis, without repair.

    One array of least costs by cells used, updated candidate by candidate: each is three passes
    over all cells (add, compare, take the smaller) and one that notes the choice.
    """
    sizes = [np.ceil(row * (cells / instance.budget)) for row in instance.errors]
    least = np.zeros(cells + 1)
    taken = np.zeros((len(sizes), cells + 1), dtype=np.int16)
    shifted, smaller = np.empty(cells + 1), np.empty(cells + 1, dtype=bool)
    for row, (row_costs, row_sizes) in enumerate(zip(instance.costs, sizes, strict=True)):
        best = np.full(cells + 1, np.inf)
        for candidate, (cost, size) in enumerate(zip(row_costs, row_sizes, strict=True)):
            if not size <= cells:
                continue
            begin = int(size)
            new, less = shifted[begin:], smaller[begin:]
            np.add(least[: cells + 1 - begin], cost, out=new)
            np.less(new, best[begin:], out=less)
            np.minimum(new, best[begin:], out=best[begin:])
            np.copyto(taken[row, begin:], candidate, where=less)
        least = best
    choice, left = np.empty(len(sizes), dtype=np.int64), cells
    for row in reversed(range(len(sizes))):
        choice[row] = taken[row, left]
        left -= int(sizes[row][choice[row]])
    return choice


@dataclass(frozen=True)
class HighsResult:
    """`cost` and `error` are of HiGHS's choice, added up as the planner does; NaN without one."""

    proven: bool
    cost: float
    error: float


def highs(instance: Instance, seconds: float) -> HighsResult:
    counts = [len(row) for row in instance.costs]
    costs, errors = np.concatenate(instance.costs), np.concatenate(instance.errors)
    finite = np.isfinite(errors)
    starts = np.concatenate([[0], np.cumsum(counts)])
    rows = csr_array((np.ones(len(costs)), np.arange(len(costs)), starts))
    spent = np.where(finite, errors, 0)[None] * (SCALE / instance.budget)
    whole = np.all(costs == np.floor(costs))
    with _silence():
        result = milp(
            costs if whole else costs * (SCALE / costs.max()),
            integrality=np.ones(len(costs)),
            bounds=Bounds(0, finite.astype(float)),
            constraints=[LinearConstraint(rows, 1, 1), LinearConstraint(spent, -np.inf, SCALE)],
            options={"mip_rel_gap": 0, "time_limit": seconds},
        )
    if result.x is None:
        return HighsResult(False, np.nan, np.nan)
    choice = np.array([np.argmax(part) for part in np.split(result.x, starts[1:-1])])
    return HighsResult(
        result.status == 0,
        instance.total(instance.costs, choice),
        instance.total(instance.errors, choice),
    )


@contextmanager
def _silence() -> Iterator[None]:
    """HiGHS prints from C++ whatever it is told."""
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
