"""Shared by the tests: real ranks as processes, and the layers of ResNet-18."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # for `experiments`

from tools.ranks import on_loopback, torchrun  # noqa: E402
from tools.ranks import run as run_command  # noqa: E402


def pytest_configure() -> None:
    """Whoever ends the tests ends their ranks, too, which are in sessions of their own."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(autouse=True)
def same_width_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide as their text, whatever the terminal is."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def run_ranks(tmp_path: Path) -> Callable[..., str]:
    """Run `script` on `ranks` real processes over Gloo on loopback; returns what they print.

    Fails when any rank fails, or takes longer than `timeout` seconds.
    """

    def run(ranks: int, script: str, *arguments: str, timeout: float = 120) -> str:
        command = torchrun(ranks, ROOT / "python/tests/ranks" / script, *arguments)
        try:
            result = run_command(command, timeout=timeout, env=on_loopback(), cwd=tmp_path)
        except subprocess.TimeoutExpired as late:
            pytest.fail(f"{script} took longer than {timeout} s:\n{late.output}{late.stderr}")
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return run


@pytest.fixture(scope="session")
def resnet18_shapes() -> dict[str, list[int]]:
    """Of ResNet-18 for CIFAR-100: 11,220,132 elements in 62 layers."""
    from experiments.models.resnet import cifar100

    return {name: list(p.shape) for name, p in cifar100().named_parameters()}
