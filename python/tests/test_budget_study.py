"""The study of budgets across families: measures, plans, and a sweep in small."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

import lgreco
from experiments.budget_study import measures
from experiments.budget_study.analysis import (
    Point,
    compare,
    correlations,
    least_payload,
    points,
    read_log,
    spearman,
)
from experiments.budget_study.feedback import owed
from experiments.budget_study.measures import MEASURES, Evidence
from experiments.budget_study.plans import dense_payload, plan_of_ratio, uniform_plan
from experiments.budget_study.settings import allowed, candidates, family
from experiments.budget_study.sweep import chosen_settings
from experiments.budget_study.window import Window
from lgreco import CostTable
from lgreco._core import harm
from tools.ranks import run

ROOT = Path(__file__).parents[2]


def evidence_of(errors, levels, norm=2.0):
    """One layer of 100 values."""
    table = CostTable(["w"], levels, np.ones((1, len(levels))), np.array([errors]))
    return Evidence(table, np.array([norm]), Window({"w": np.zeros((1, 1, 10, 10))}))


def random_window(steps=4, workers=2):
    rng = np.random.default_rng(0)
    shapes = {"wide": (64, 96), "small": (32, 48), "bias": (48,)}
    return Window(
        {
            name: rng.standard_normal((steps, workers, *shape)).astype(np.float32)
            for name, shape in shapes.items()
        }
    )


def test_measures_on_numbers_by_hand():
    ranks = [lgreco.Dense(), lgreco.PowerSGD(2), lgreco.PowerSGD(1)]
    evidence = evidence_of([0.0, 1.0, 1.6], ranks)  # eps is 0, 0.5, 0.8 of a norm of 2
    assert measures.squared(evidence)[0] == pytest.approx([0, 1, 2.56])
    assert measures.debt_bound(evidence)[0] == pytest.approx(
        [0, 4 * 0.25 / 0.75**2, 4 * 0.64 / 0.36**2]
    )
    assert measures.debt_of_noise(evidence)[0] == pytest.approx([0, 4 / 3, 4 * 0.64 / 0.36])
    assert measures.geometric_lag(evidence)[0] == pytest.approx(
        [0, 4 / 3, 4 * 0.64 / 0.36], rel=1e-4
    )
    assert measures.capped(0.7)(evidence)[0].tolist() == pytest.approx([0, 1, math.inf])


@pytest.mark.parametrize("name", ["norm", "squared", "debt"])
def test_measures_of_the_library_have_its_names(name):
    errors = [0.0, 0.5, 1.0, 1.9, 2.0]
    evidence = evidence_of(errors, [lgreco.TopK(0.01 * (n + 1)) for n in range(len(errors))])
    expected = [harm(name, error, 2.0) for error in errors]
    assert MEASURES[name](evidence)[0] == pytest.approx(expected)


def test_nothing_delivered_has_an_infinite_bound_but_a_finite_lag():
    evidence = evidence_of([2.0, 2.5], [lgreco.TopK(0.01), lgreco.TopK(0.001)])
    assert measures.debt_bound(evidence)[0].tolist() == [math.inf, math.inf]
    assert measures.geometric_lag(evidence)[0] == pytest.approx([measures.STEPS * 4] * 2)


def test_rounding_lags_by_chance_and_one_bit_never_settles():
    evidence = evidence_of([1.0, 1.0], [lgreco.Quantize(2), lgreco.Quantize(1)])
    assert measures.geometric_lag(evidence)[0] == pytest.approx([3 * 1 * 2 / 10, math.inf])
    window = random_window(steps=10).layers["wide"]
    drawn = [lgreco.Quantize(bits, rounding="stochastic") for bits in (1, 2)]
    one, two = ([np.linalg.norm(o) for o in owed(window, level)] for level in drawn)
    assert one[-1] > 10 * one[0] and two[-1] < 4 * two[0]


@pytest.mark.parametrize("name", sorted(MEASURES))
def test_every_measure_orders_the_levels_of_a_family(name):
    levels = [lgreco.Dense(), lgreco.TopK(0.3), lgreco.TopK(0.1), lgreco.TopK(0.03)]
    harm = MEASURES[name](Evidence.of(random_window(), levels))
    wide = harm[0][np.isfinite(harm[0])]
    assert wide[0] == 0 and np.all(np.diff(wide) > 0) and len(wide) >= 2


@pytest.mark.parametrize("level", [lgreco.TopK(0.1), lgreco.PowerSGD(2), lgreco.Quantize(4)])
def test_what_is_owed_is_what_was_not_delivered(level):
    """Of a gradient that stays the same, ever more steps' worth is owed, but not all of it."""
    gradient = np.random.default_rng(1).standard_normal((1, 2, 64, 96)).astype(np.float32)
    steps = list(owed(gradient, level, rounds=12))
    mean = gradient.mean(axis=(0, 1))
    lag = np.array([np.vdot(one, mean) for one in steps]) / np.vdot(mean, mean)
    assert np.all(lag < np.arange(1, 13))
    if isinstance(level, lgreco.Quantize):
        assert np.all(np.abs(lag) < 0.1)
    else:
        assert 0 < lag[0] < lag[-1]


@pytest.mark.parametrize("ratio", [10, 25, 60])
@pytest.mark.parametrize("measure", ["norm", "debt_bound", "lag"])
def test_plans_hit_their_ratio(measure, ratio):
    evidence = Evidence.of(random_window(), candidates())
    plan = plan_of_ratio(evidence.table, MEASURES[measure](evidence), ratio)
    table = evidence.table
    columns = {str(level): i for i, level in enumerate(table.levels)}
    bytes_ = sum(table.costs[i, columns[str(plan[n])]] for i, n in enumerate(table.names))
    assert ratio <= dense_payload(table) / bytes_ < 1.25 * ratio


def test_no_plan_beyond_the_smallest():
    evidence = Evidence.of(random_window(), candidates())
    assert plan_of_ratio(evidence.table, evidence.table.errors, ratio=10_000) is None


def test_layers_that_a_level_does_not_suit_are_dense():
    plan = uniform_plan({"wide": [64, 96], "bias": [48]}, lgreco.PowerSGD(4))
    assert plan == {"wide": lgreco.PowerSGD(4), "bias": lgreco.Dense()}


def test_plans_within_a_family():
    chosen = chosen_settings("dense", "squared,norm/topk", "25,60")
    names = ["dense", "squared@25", "norm/topk@25", "squared@60", "norm/topk@60"]
    assert [setting.name for setting in chosen] == names
    levels = [str(level) for level in candidates()]
    families = {family(level) for level, ok in zip(levels, allowed("topk"), strict=True) if ok}
    assert families == {"dense", "cast", "topk"} and all(allowed(""))


def run_of(name, loss, level="", measure="", plan="topk:0.01"):
    return {
        "name": name, "level": level, "measure": measure, "ratio": 25.0, "loss": loss,
        "payload": 1, "plan": {"wide": plan, "small": plan, "bias": "dense"},
    }  # fmt: skip


def test_correlation_of_plans_of_equal_bytes():
    runs = [
        run_of("dense", 9.0, level="dense", plan="dense"),
        run_of("a@25", 1.0, measure="a", plan="topk:0.1"),
        run_of("b@25", 2.0, measure="b", plan="topk:0.01"),
        run_of("c@25", 3.0, measure="c", plan="topk:0.001"),
    ]
    found = correlations(runs, random_window())["squared"]
    assert found.equal_bytes == pytest.approx(1) and found.all_runs == pytest.approx(-0.2)


def test_spearman_by_hand():
    assert spearman([1, 2, 3, math.inf], [10, 20, 30, math.nan]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 1, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


LOG_2_5 = math.log(2.5) / math.log(4)  # how far 250 is from 100 to 400


def point(level, payload, accuracy):
    return Point(level, level, "", payload, 1.0, (accuracy,), (1.0,))


def test_a_plan_against_uniform_settings():
    uniform = [
        point("topk:0.1", 400, 90.0), point("topk:0.01", 100, 80.0), point("low_rank:1", 250, 84.0)
    ]  # fmt: skip
    found = compare(point("", 200, 90.0), uniform)
    assert found.gain == pytest.approx(5) and found.fewer == pytest.approx(2)
    assert compare(point("", 100, 84.0), uniform).fewer == pytest.approx(4**0.4)
    assert compare(point("", 200, 91.0), uniform).fewer == math.inf
    assert compare(point("", 50, 91.0), uniform) is None
    assert compare(point("", 250, 90.0), uniform).gain == pytest.approx(90 - 80 - 10 * LOG_2_5)


def test_least_payload_between_points():
    payloads, accuracies = np.array([100.0, 400.0]), np.array([80.0, 90.0])
    assert least_payload(payloads, accuracies, 85.0) == pytest.approx(200)
    assert least_payload(payloads, accuracies, 79.0) == 100
    assert least_payload(payloads, accuracies, 95.0) is None


def sweep(output):
    command = [
        sys.executable, "-m", "experiments.budget_study.sweep", "--task=transformer",
        "--seeds=1", "--steps=12", "--levels=dense,topk:0.01", "--measures=squared",
        "--ratios=25", f"--output={output}",
    ]  # fmt: skip
    return run(command, timeout=200, cwd=ROOT)


def test_a_sweep_in_small(tmp_path):
    result = sweep(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    log = tmp_path / "transformer-0.jsonl"
    entries = read_log(log)
    assert [entry["name"] for entry in entries] == ["dense", "topk:0.01", "squared@25"]
    for entry in entries:
        assert 0 <= entry["bytes_per_step"] - entry["payload"] < 0.1 * entry["payload"] + 4000
    assert 25 <= entries[2]["dense_payload"] / entries[2]["payload"] < 26
    assert entries[1]["loss"] < math.log(256)

    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries[:2]))
    again = sweep(tmp_path)
    assert again.returncode == 0 and "squared@25" in again.stdout and "dense" not in again.stdout
    assert [p.name for p in points(read_log(log))] == ["dense", "squared@25", "topk:0.01"]
