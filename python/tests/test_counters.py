"""Figures of an interval."""

import pytest

import lgreco
from lgreco.counters import PER_STEP, interval, scalars, with_ratio


def stats(steps, **others):
    """So many steps of 10 bytes instead of 100."""
    found = {name: 0 for name in PER_STEP}
    found |= {"steps": steps, "bytes_sent": 10 * steps, "dense_bytes": 100 * steps}
    found |= {"encode_s": 0.5 * steps, "plan_s": 0.0, "plans": 1, "plan_failures": 0}
    return with_ratio(found | {"residual_norm": 3.0, "plan_failure": ""} | others)


def test_an_interval_is_what_was_added_and_its_own_ratio():
    earlier = stats(10)
    now = stats(30, bytes_sent=100 + 20 * 50, residual_norm=1.0)
    added = interval(now, earlier)
    assert added["steps"] == 20 and added["encode_s"] == 10.0
    assert added["ratio"] == 2000 / 1000 != now["ratio"]
    assert added["residual_norm"] == 1.0 and added.keys() == now.keys()
    assert interval(now, now)["ratio"] == 1.0


def test_a_failure_before_the_interval_is_none_of_it():
    failed = {"plan_failures": 1, "plan_failure": "no memory"}
    assert interval(stats(2, **failed), stats(1))["plan_failure"] == "no memory"
    assert interval(stats(2, **failed), stats(1, **failed))["plan_failure"] == ""


@pytest.mark.parametrize(
    ("since", "message"),
    [
        (1000, "since is a int; pass a dict that stats() gave before"),
        ({}, "since has None for 'bytes_sent'"),
        ({**stats(1), "steps": "1"}, "since has '1' for 'steps'"),
        (stats(3), "since has 30 for 'bytes_sent', and now there are 20: it is later, or of"),
        ({**stats(1), "encode_s": float("nan")}, "since has nan for 'encode_s'"),
    ],
)
def test_what_is_no_earlier_figure_is_refused(since, message):
    with pytest.raises(lgreco.ConfigError) as refused:
        interval(stats(2), since)
    assert f"[stats] {message}" in str(refused.value)


def test_scalars_are_means_of_a_step_and_totals_of_events():
    found = scalars(stats(30, plans=4), stats(10))
    assert found["lgreco/ratio"] == 10.0
    assert found["lgreco/per_step/bytes_sent"] == 10.0
    assert found["lgreco/per_step/encode_s"] == 0.5
    assert found["lgreco/plans"] == 4.0
    assert not {"lgreco/residual_norm", "lgreco/steps", "lgreco/encode_s"} & found.keys()
    assert all(isinstance(value, int | float) for value in found.values())
