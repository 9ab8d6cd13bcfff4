"""Local steps and a compressed outer step, on real ranks; ranks/outer_step.py has the cases."""

from __future__ import annotations

import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests/fake_device"))
from building import build


def check(run_ranks, ranks: int, *cases: str) -> None:
    printed = run_ranks(ranks, "outer_step.py", *cases, timeout=300)
    for case in cases:
        assert f"{case}: as it should be" in printed


@pytest.mark.parametrize("ranks", [2, 3])
def test_dense_outer_steps_are_plain_diloco(run_ranks, ranks):
    check(run_ranks, ranks, "plain", "one")


@pytest.mark.parametrize("ranks", [2, 3])
def test_all_ranks_hold_the_same_bits(run_ranks, ranks):
    check(run_ranks, ranks, "bits", "fragments", "16_bits")


@pytest.mark.parametrize("ranks", [1, 2])
def test_what_ranks_start_from_and_end_with(run_ranks, ranks):
    check(run_ranks, ranks, "flush", *(["start"] if ranks > 1 else []))


@pytest.mark.parametrize("ranks", [2, 3])
def test_what_is_not_finite_is_skipped_on_all_ranks(run_ranks, ranks):
    check(run_ranks, ranks, "not_finite")


def test_error_feedback_and_plans(run_ranks):
    check(run_ranks, 2, "telescopes", "plans")


def test_resume_at_every_step(run_ranks):
    check(run_ranks, 2, "resume")


def test_states(run_ranks):
    check(run_ranks, 2, "refuse", "gathered")


def test_resume_on_another_number_of_ranks(run_ranks):
    check(run_ranks, 2, "save")
    check(run_ranks, 3, "load")


def test_wrong_use_and_ranks_that_differ(run_ranks):
    check(run_ranks, 2, "wrong_use", "differences")


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_peer_that_ends_changes_nothing(run_ranks, ranks):
    printed = run_ranks(ranks, "outer_step.py", "peer")
    assert printed.count("survived") == ranks - 1


def test_parameters_on_an_accelerator(run_ranks):
    build("_fake_device")
    assert "the bits of the CPU" in run_ranks(2, "device_outer_step.py")
