"""Gradients on an accelerator, on the fake device (tests/fake_device): a device of threads on which
whatever did not wait for what it needs is found, by happens-before, however the threads ran."""

import re
import sys

import pytest
import torch
from conftest import ROOT

from tools.ranks import run as run_command

sys.path.insert(0, str(ROOT / "tests/fake_device"))
from building import build
from mistakes import MISTAKES, plant

METHODS = [
    "dense",
    "cast:bf16",
    "quantize:4",
    "topk:0.05",
    "entropy:0.5",
    "low_rank:2:min_ratio=1",
    "low_rank:2:min_ratio=1:factors=8",
]
A_METHOD_OF_EACH_KIND = [METHODS[2], METHODS[6]]


@pytest.fixture(scope="session")
def fake_device():
    build("_fake_device", "planted_torch")


@pytest.mark.usefixtures("fake_device")
@pytest.mark.parametrize(
    ("ranks", "methods"),
    [
        (2, METHODS),
        (4, A_METHOD_OF_EACH_KIND),
        pytest.param(4, METHODS, marks=pytest.mark.slow),
    ],
)
def test_every_way_of_using_ddp(run_ranks, ranks, methods):
    output = run_ranks(ranks, "device_modes.py", "all", *methods, timeout=900)
    assert re.search(r"\d+ cases have the bits of the CPU, and no race", output)


@pytest.mark.usefixtures("fake_device")
def test_shards_of_fsdp(run_ranks):
    assert "the bits of the CPU" in run_ranks(4, "device_fsdp.py", timeout=300)


@pytest.mark.usefixtures("fake_device")
def test_nodes_sum_on_the_device(run_ranks):
    assert "the bits of the CPU" in run_ranks(4, "device_node.py", timeout=300)


@pytest.mark.usefixtures("fake_device")
def test_late_devices(run_ranks):
    assert "hold nobody up" in run_ranks(2, "device_late.py", timeout=300)


@pytest.mark.usefixtures("fake_device")
def test_every_planted_mistake_is_found(run_ranks):
    assert f"{len(MISTAKES)} mistakes are found" in run_ranks(2, "device_mistakes.py", timeout=600)


def test_mistakes_are_planted_in_the_tests_alone():
    files = {mistake.file for mistake in MISTAKES}
    for file in files:
        source = (ROOT / file).read_text()
        assert "is_planted" not in source
        assert plant(file, source).count("is_planted(") == sum(m.file == file for m in MISTAKES)


@pytest.mark.usefixtures("fake_device")
def test_the_check_of_a_machine():
    command = [sys.executable, "-m", "benchmarks.device_check"]
    done = run_command([*command, "fake"], timeout=300, cwd=ROOT)
    assert done.returncode == 0 and "the bits of the CPU" in done.stdout, done.stdout + done.stderr
    if torch.accelerator.is_available():
        return
    done = run_command(command, timeout=60, cwd=ROOT)
    assert done.returncode == 1 and "no accelerator on this machine" in done.stderr
