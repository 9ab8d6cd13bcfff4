"""Hostile calls: a short turn of `python -m tests.attack`."""

import random

from tests.attack.__main__ import attack
from tests.attack.calls import TARGETS
from tests.attack.outcomes import Call, faults_of


def test_hostile_calls_end_in_a_result_or_an_error_of_the_library(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seed = random.SystemRandom().randrange(2**32)
    faults = faults_of(list(attack(400, random.Random(seed))))
    assert not faults, f"seed {seed}: {faults}"


def test_the_targets_work_with_good_arguments():
    for target in TARGETS:
        if "nowhere" not in str(target.good) and "plan.json" not in str(target.good):
            target.function(*target.good)


def test_faults_are_found():
    import os

    found = faults_of(
        [
            Call("works", lambda: 1),
            Call("raises", lambda: [][0]),
            Call("ends", lambda: os.kill(os.getpid(), 9)),
            Call("works", lambda: 1),
        ]
    )
    assert [fault.call for fault in found] == ["raises", "ends"]
    assert "IndexError" in found[0].what and "-9" in found[1].what
