"""Benchmarks on ranks: every rank measures, rank 0 prints what the parent process reads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TypeVar

import torch
import torch.distributed as dist

Result = TypeVar("Result")  # a dataclass
_MARK = "RESULT "


def run_as_rank(measure: Callable[[], Iterable[object]]) -> None:
    """Print each result of `measure`, which is collective, in a Gloo group."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for result in measure():
        if dist.get_rank() == 0:
            print(_MARK + json.dumps(asdict(result)), flush=True)
    dist.destroy_process_group()


def measured_on(
    ranks: int,
    module: str,
    kind: type[Result],
    *arguments: str,
    around: Callable[[Sequence[str]], list[str]] = list,
) -> list[Result]:
    """What rank 0 of `module --rank` measured, on `ranks` processes of this machine. `around` makes
    their command one that does more. Ends the program when a rank fails."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={ranks}", "-m", module, "--rank", *arguments]
    result = subprocess.run(around(command), capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SystemExit(f"{ranks} ranks failed:\n{result.stdout}{result.stderr}")
    return results_in(result.stdout, kind)


def results_in(output: str, kind: type[Result]) -> list[Result]:
    lines = [line for line in output.splitlines() if line.startswith(_MARK)]
    return [kind(**json.loads(line.removeprefix(_MARK))) for line in lines]
