"""Benchmarks on ranks: every rank measures, rank 0 prints what the parent process reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
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


def torchrun(ranks: int, module: str) -> list[str]:
    """The command that runs `module --rank` on `ranks` processes of this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*command, f"--nproc-per-node={ranks}", "-m", module, "--rank"]


def results_in(output: str, kind: type[Result]) -> list[Result]:
    lines = [line for line in output.splitlines() if line.startswith(_MARK)]
    return [kind(**json.loads(line.removeprefix(_MARK))) for line in lines]
