"""Ray Train starts ranks of its own."""

import sys
from pathlib import Path

from tools.ranks import on_loopback, run

SCRIPT = Path(__file__).parent / "ranks/ray_train.py"


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path):
    command = [sys.executable, str(SCRIPT), str(tmp_path)]
    result = run(command, timeout=500, env=on_loopback(), cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "the same bits" in result.stdout
