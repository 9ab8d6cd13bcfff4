"""Shared by the tests: real ranks as processes, and the layers of ResNet-18."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # for `experiments`


@pytest.fixture
def run_ranks(tmp_path: Path) -> Callable[..., str]:
    """Run `script` on `ranks` real processes over Gloo on loopback; returns what they print.

    Fails when any rank fails, or takes longer than `timeout` seconds.
    """

    def run(ranks: int, script: str, *arguments: str, timeout: float = 120) -> str:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={ranks}", str(ROOT / "python/tests/ranks" / script)]
        launcher = subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
            cwd=tmp_path,
        )
        try:
            output, _ = launcher.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            launcher.terminate()  # it ends its ranks, which a killed launcher would leave behind
            output, _ = launcher.communicate()
            pytest.fail(f"{script} took longer than {timeout} s:\n{output}")
        assert launcher.returncode == 0, output
        return output

    return run


@pytest.fixture(scope="session")
def resnet18_shapes() -> dict[str, list[int]]:
    """Of ResNet-18 for CIFAR-100: 11,220,132 elements in 62 layers."""
    from experiments.resnet18.model import cifar100

    return {name: list(p.shape) for name, p in cifar100().named_parameters()}
