"""Lists of runs: each is `experiments.run` on ranks of this machine, with a log and a screen."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from lgreco.errors import StateError
from lgreco.run_log import read_run_log
from tools.ranks import end_session, on_loopback, torchrun

RANKS = 2
LAST_LINES = 15


@dataclass(frozen=True)
class Run:
    """A named run of a task: options of experiments.run."""

    name: str
    method: str
    policy: str = "uniform"
    high: str = ""
    levels: str = "same"
    alpha: float = 1.0

    def log(self, folder: Path, suffix: str = "") -> Path:
        return folder / (self.name.replace(" ", "-").lower() + f"{suffix}.jsonl")


class RunFailed(Exception):
    """A training process ended with an error; the message ends with its last lines."""


def train(
    task: str,
    run: Run,
    log: Path,
    options: Mapping[str, object],
    show: Callable[[int, float], None] = lambda _steps, _loss: None,
) -> None:
    """Train until the end; `show` gets the steps done and the loss now and then.

    What the ranks print is beside the log. Raises RunFailed; leaves no rank behind.
    """
    own = {field.name: getattr(run, field.name) for field in fields(run)}
    arguments = [f"--{name}={value}" for name, value in {**own, **options, "output": log}.items()]
    screen = log.with_suffix(".txt")
    with screen.open("w") as file:
        process = subprocess.Popen(
            torchrun(RANKS, "-m", "experiments.run", task, *arguments),
            stdout=file,
            stderr=subprocess.STDOUT,
            env=on_loopback(),
            start_new_session=True,
        )
    try:
        while process.poll() is None:
            time.sleep(0.2)
            _show_last_step(log, show)
    except BaseException:
        end_session(process)
        raise
    _show_last_step(log, show)
    if process.returncode != 0:
        lines = screen.read_text().splitlines()
        lines = [line for line in lines if line.startswith("[rank0]")] or lines
        last = lines[-LAST_LINES:]
        raise RunFailed("\n".join([f"The run '{log.stem}' failed ({screen}):", *last]))


def is_finished(log: Path) -> bool:
    """Whether it is there, and not that of a run that was stopped."""
    try:
        return "end" in read_run_log(log)
    except StateError:
        return False


def _show_last_step(log: Path, show: Callable[[int, float], None]) -> None:
    lines = log.read_text().splitlines() if log.exists() else []
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:  # the last line may be half written
            continue
        if entry["event"] == "step":
            show(entry["step"], entry["loss"])
            return
