"""Ranks as processes of this machine, under torchrun."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

# Seconds for a launcher to end: torchrun gives its ranks 30, and they outlive one that is killed.
GRACE = 40.0


def torchrun(ranks: int, *arguments: str | Path) -> list[str]:
    """The command that runs `arguments` (a script, or -m and a module) on so many ranks."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*command, f"--nproc-per-node={ranks}", *map(str, arguments)]


def on_loopback() -> dict[str, str]:
    """This process's environment, for ranks of one thread that meet on the loopback interface."""
    return os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def run(
    command: Sequence[str],
    *,
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run, with captured output, but leaves no rank behind when an exception ends it,
    such as KeyboardInterrupt.

    Raises subprocess.TimeoutExpired, with the output, after `timeout` seconds.
    """
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        process = subprocess.Popen(
            command, stdout=stdout, stderr=stderr, env=env, cwd=cwd, start_new_session=True
        )
        try:
            process.wait(timeout)
        except BaseException as error:
            end_session(process)
            if isinstance(error, subprocess.TimeoutExpired):
                error.output, error.stderr = _content(stdout), _content(stderr)
            raise
        return subprocess.CompletedProcess(
            command, process.returncode, _content(stdout), _content(stderr)
        )


def end_session(process: subprocess.Popen, grace: float = GRACE) -> None:
    """Ask what a process that leads a session started to end, and kill what is left of it."""
    deadline = time.monotonic() + grace
    with contextlib.suppress(ProcessLookupError):  # when all have ended
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _content(file: TextIO) -> str:
    file.seek(0)
    return file.read()
