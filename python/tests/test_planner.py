import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

import lgreco


def random_table(seed, layers, levels):
    rng = np.random.default_rng(seed)
    costs = [rng.integers(1, 1000, levels).astype(float) for _ in range(layers)]
    errors = [rng.random(levels) for _ in range(layers)]
    reference = rng.integers(0, levels, layers)
    budget = sum(e[r] for e, r in zip(errors, reference, strict=True))
    return costs, errors, reference, budget


def total(rows, choice):
    return sum(row[c] for row, c in zip(rows, choice, strict=True))


@pytest.mark.parametrize("solver", ["exact", "dp"])
def test_never_worse_than_the_reference_and_within_the_budget(solver):
    for seed in range(1000):
        costs, errors, reference, budget = random_table(seed, 1 + seed % 30, 1 + seed % 8)
        s = lgreco.solve(costs, errors, budget, reference, solver)
        assert s.feasible
        assert s.cost == total(costs, s.choice) <= total(costs, reference)
        assert total(errors, s.choice) <= budget
        assert s.lower_bound <= s.cost


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 2**32),
    layers=st.integers(1, 5),
    levels=st.integers(1, 4),
    part=st.floats(0.3, 3),
)
def test_exact_equals_brute_force(seed, layers, levels, part):
    costs, errors, _, budget = random_table(seed, layers, levels)
    budget *= part
    feasible = [
        total(costs, choice)
        for choice in itertools.product(range(levels), repeat=layers)
        if total(errors, choice) <= budget
    ]
    s = lgreco.solve(costs, errors, budget)
    assert s.feasible == bool(feasible)
    if feasible:
        assert s.cost == s.lower_bound == min(feasible)


def highs_cost(costs, errors, budget):
    """The optimum of `scipy.optimize.milp`, added up from its choice."""
    layers, levels = len(costs), len(costs[0])
    one_per_layer = np.kron(np.eye(layers), np.ones(levels))
    total_error = np.concatenate(errors)[None] * (1e5 / budget)  # its tolerances are absolute
    result = milp(
        np.concatenate(costs),
        integrality=np.ones(layers * levels),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one_per_layer, 1, 1), LinearConstraint(total_error, ub=1e5)],
        options={"mip_rel_gap": 0},
    )
    assert result.status == 0
    choice = np.argmax(result.x.reshape(layers, levels), axis=1)
    assert total(errors, choice) <= budget
    return total(costs, choice)


def ranks_table(seed, layers, levels):
    """Costs linear and errors falling in the level, as those of ranks; few different sizes."""
    rng = np.random.default_rng(seed)
    sizes, decays = rng.choice([512, 640, 1536, 2048, 4608], layers), rng.uniform(0.02, 0.5, layers)
    costs = [np.append(4.0 * s * np.arange(1, levels), 40.0 * s * levels) for s in sizes]
    errors = [np.append(np.exp(-d * np.arange(1, levels)), 0.0) for d in decays]
    return costs, errors, sum(e[levels // 2] for e in errors)


@pytest.mark.parametrize("seed", range(60))
def test_exact_equals_highs(seed):
    costs, errors, _, budget = random_table(seed, 5 + seed % 20, 3 + seed % 8)
    s = lgreco.solve(costs, errors, budget)
    assert s.cost == s.lower_bound == highs_cost(costs, errors, budget)


@pytest.mark.parametrize("seed", range(10))
def test_exact_equals_highs_on_ranks(seed):
    costs, errors, budget = ranks_table(seed, 60, 8)
    s = lgreco.solve(costs, errors, budget)
    assert s.cost == s.lower_bound == highs_cost(costs, errors, budget)


def test_empty_table():
    s = lgreco.solve([], [], 1.0)
    assert s.feasible and s.cost == 0 and len(s.choice) == 0


def test_non_finite_errors():
    s = lgreco.solve([[1, 2], [1, 2]], [[np.nan, 0.5], [np.inf, np.nan]], 1.0, reference=[1, 1])
    assert list(s.choice) == [1, 1]
    assert s.fallback_layers == [1]
    assert s.feasible


def test_infeasible_returns_the_reference_or_the_smallest_errors():
    costs, errors = [[4, 2], [4, 1]], [[1, 2], [3, 1]]
    s = lgreco.solve(costs, errors, 0.5, reference=[1, 0])
    assert not s.feasible and list(s.choice) == [1, 0]
    s = lgreco.solve(costs, errors, 0.5)
    assert not s.feasible and list(s.choice) == [0, 1]


@pytest.mark.parametrize(
    "arguments",
    [
        ([[1]], [[1], [1]], 1.0),
        ([[1, 2]], [[1]], 1.0),
        ([[]], [[]], 1.0),
        ([[-1]], [[1]], 1.0),
        ([[np.nan]], [[1]], 1.0),
        ([[1]], [[-1]], 1.0),
        ([[1]], [[1]], np.nan),
        ([[1]], [[1]], 1.0, [1]),
        ([[1]], [[1]], 1.0, [-1]),
        ([[1]], [[1]], 1.0, [0, 0]),
        ([[1]], [[1]], 1.0, None, "magic"),
        ([[[1]]], [[[1]]], 1.0),
    ],
)
def test_wrong_input_is_a_config_error(arguments):
    with pytest.raises(lgreco.ConfigError):
        lgreco.solve(*arguments)
