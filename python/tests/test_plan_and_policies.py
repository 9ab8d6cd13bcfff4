import dataclasses
import json

import pytest

import lgreco
from lgreco.plan import Estimate, LayerEstimate

ESTIMATE = LayerEstimate(
    reason="fewest bytes within the budget",
    chosen=Estimate(bytes=60.0, error=0.5, seconds=0.0),
    reference=Estimate(bytes=100.0, error=0.25, seconds=0.0),
    dense=Estimate(bytes=400.0, error=0.0, seconds=0.0),
)
PLAN = lgreco.Plan({"a": lgreco.PowerSGD(2), "b": lgreco.Dense()}, step=7, version=2, bytes=100.0)


def test_plan_is_a_mapping():
    assert PLAN["a"] == lgreco.PowerSGD(2)
    assert list(PLAN) == ["a", "b"] and len(PLAN) == 2


def test_plan_saves_and_loads(tmp_path):
    PLAN.save(tmp_path / "plan.json")
    loaded = lgreco.Plan.load(tmp_path / "plan.json")
    assert loaded == PLAN and loaded.hash == PLAN.hash
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_hash_depends_on_names_and_levels_alone():
    assert lgreco.Plan(PLAN.levels, step=9).hash == PLAN.hash
    assert lgreco.Plan({"a": lgreco.PowerSGD(3), "b": lgreco.Dense()}).hash != PLAN.hash
    assert lgreco.Plan({"c": lgreco.PowerSGD(2), "b": lgreco.Dense()}).hash != PLAN.hash


def test_plan_keeps_its_estimates(tmp_path):
    plan = dataclasses.replace(PLAN, estimates={"a": ESTIMATE})
    plan.save(tmp_path / "plan.json")
    loaded = lgreco.Plan.load(tmp_path / "plan.json")
    assert loaded == plan and loaded.estimates["a"] == ESTIMATE
    assert loaded.hash == PLAN.hash


def test_a_plan_without_estimates_loads():
    values = PLAN.to_dict()
    assert values.pop("estimates") == {}
    assert lgreco.Plan.from_dict(values) == PLAN


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.update(z=e["a"]), "of 'z', which has no level"),
        (lambda e: e.update(a=[1]), "of 'a' is missing or no mapping"),
        (lambda e: e["a"].pop("reason"), "of 'a': 'reason'"),
        (lambda e: e["a"].update(reason=1), "of 'a': 'reason'"),
        (lambda e: e["a"].update(best=1), "of 'a': unknown key 'best'"),
        (lambda e: e["a"].pop("dense"), "of 'a': 'dense' is missing"),
        (lambda e: e["a"]["chosen"].pop("bytes"), "of 'a': 'chosen': 'bytes' is missing"),
        (lambda e: e["a"]["chosen"].update(bytes="1"), "of 'a': 'chosen': 'bytes' is missing"),
        (lambda e: e["a"]["reference"].update(error=-1), "of 'a': 'reference': 'error' is neg"),
        (lambda e: e["a"]["dense"].update(seconds=float("inf")), "'dense': 'seconds' is missing"),
        (lambda e: e["a"]["dense"].update(joules=1), "of 'a': 'dense': unknown key 'joules'"),
    ],
)
def test_damaged_estimates_are_refused(change, message):
    values = dataclasses.replace(PLAN, estimates={"a": ESTIMATE}).to_dict()
    change(values["estimates"])
    with pytest.raises(lgreco.StateError, match=message):
        lgreco.Plan.from_dict(values)


@pytest.mark.parametrize("estimates", [None, [], 3])
def test_estimates_must_be_a_mapping(estimates):
    with pytest.raises(lgreco.StateError, match="'estimates'"):
        lgreco.Plan.from_dict({**PLAN.to_dict(), "estimates": estimates})


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.pop("levels"),
        lambda v: v.pop("bytes"),
        lambda v: v.update(format="lgreco-plan-999"),
        lambda v: v.update(levels=[1, 2]),
        lambda v: v["levels"].update(a="low_rank:0"),
        lambda v: v["levels"].update(a=4),
        lambda v: v["levels"].update(a="low_rank:3"),
        lambda v: v.update(bytes=float("nan")),
        lambda v: v.update(version=-1),
        lambda v: v.update(step="seven"),
    ],
)
def test_damaged_plans_are_refused(tmp_path, change):
    path = tmp_path / "plan.json"
    PLAN.save(path)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(lgreco.StateError):
        lgreco.Plan.load(path)


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "plan.json"
    PLAN.save(path)
    text = path.read_text().rstrip()
    for length in range(len(text)):
        path.write_text(text[:length])
        with pytest.raises(lgreco.StateError):
            lgreco.Plan.load(path)


def test_fixed_takes_the_first_matching_pattern():
    fixed = lgreco.Fixed({"head.*": lgreco.Dense(), "*.weight": lgreco.Quantize(2)})
    settings = fixed.settings(["head.weight", "body.weight", "body.bias"], lgreco.PowerSGD(4))
    assert settings["levels"] == {"head.weight": "dense", "body.weight": "quantize:2"}


def test_fixed_takes_names_that_look_like_patterns():
    levels = {
        "block[0]": lgreco.Quantize(2),
        "head*": lgreco.Quantize(8),
        "block0": lgreco.Quantize(4),  # which "block[0]" matches as a pattern
    }
    settings = lgreco.Fixed(levels).settings(list(levels), lgreco.Dense())
    assert settings["levels"] == {name: str(level) for name, level in levels.items()}


def test_fixed_refuses_patterns_without_a_layer():
    with pytest.raises(lgreco.ConfigError, match="'tail' matches no layer"):
        lgreco.Fixed({"tail": lgreco.Dense()}).settings(["head"], lgreco.Dense())


def test_fixed_loads_a_saved_plan(tmp_path):
    PLAN.save(tmp_path / "plan.json")
    assert lgreco.Fixed.load(tmp_path / "plan.json").levels == dict(PLAN)


def test_policies_take_levels_by_their_spelling():
    assert lgreco.LGreCo(levels=["low_rank:4"]) == lgreco.LGreCo(levels=[lgreco.PowerSGD(4)])
    of_methods = lgreco.Accordion(lgreco.Quantize(8), lgreco.Quantize(4))
    assert lgreco.Accordion("quantize:8", "quantize:4") == of_methods
    assert lgreco.Fixed({"a*": "topk:0.1"}) == lgreco.Fixed({"a*": lgreco.TopK(0.1)})
    for wrong in (lambda: lgreco.Accordion("quantize:9", "dense"), lambda: lgreco.Fixed({"a": 4})):
        with pytest.raises(lgreco.ConfigError, match=r"\[policy\] (Accordion: low|Fixed: 'a')"):
            wrong()


@pytest.mark.parametrize(
    "wrong",
    [
        {"every": 0},
        {"start": 0},
        {"window": 0},
        {"every": 1.5},
        {"every": True},
        {"budget": "cubed"},
        {"solver": "magic"},
        {"objective": "money"},
        {"layers": "some"},
        {"levels": "all"},
        {"levels": ["low_rank:many"]},
        {"levels": ["low_rank:4", 4]},
        {"levels": "low_rank:4"},
        {"levels": []},
        {"levels": iter([])},
        {"levels": lgreco.PowerSGD(4)},
        {"levels": None},
        {"objective": "time", "bandwidth": 1e9},
        {"bandwidth": 1e9, "latency": 1e-3},
    ],
)
def test_lgreco_refuses_wrong_settings(wrong):
    with pytest.raises(lgreco.ConfigError):
        lgreco.LGreCo(**wrong)


def test_levels_of_a_generator_are_kept():
    policy = lgreco.LGreCo(levels=(lgreco.Quantize(bits) for bits in (2, 4)))
    for _ in range(2):
        candidates = policy.settings([], lgreco.Quantize(4))["candidates"]
        assert candidates == ["quantize:2", "quantize:4"]


def test_mixed_plans_choose_from_all_families():
    settings = lgreco.LGreCo(levels="mixed").settings([], lgreco.PowerSGD(4))
    families = {lgreco.method(level).__class__ for level in settings["candidates"]}
    assert families >= {lgreco.PowerSGD, lgreco.Quantize, lgreco.TopK, lgreco.Cast, lgreco.Dense}
    assert settings["budget"] == "debt"
    assert lgreco.LGreCo().settings([], lgreco.PowerSGD(4))["budget"] == "norm"


def test_plans_after_accordion_choose_around_both_levels():
    then = lgreco.LGreCo(levels="mixed")
    policy = lgreco.Accordion(lgreco.PowerSGD(8), lgreco.PowerSGD(1), then=then)
    candidates = policy.settings([], lgreco.PowerSGD(8))["then"]["candidates"]
    assert {"low_rank:32", "low_rank:1"} <= set(candidates)


@pytest.mark.parametrize(
    "wrong",
    [
        {"low": "low_rank:many"},
        {"high": None},
        {"every": 0},
        {"threshold": 0},
        {"threshold": float("nan")},
        {"then": lgreco.Uniform()},
        {"micro_batches": 4},
        {"micro_batches": (1, 0)},
        {"micro_batches": (1, 2, 3)},
    ],
)
def test_accordion_refuses_wrong_settings(wrong):
    right = {"low": lgreco.PowerSGD(2), "high": lgreco.PowerSGD(1)}
    lgreco.Accordion(**right)
    with pytest.raises(lgreco.ConfigError, match="Accordion"):
        lgreco.Accordion(**{**right, **wrong})
