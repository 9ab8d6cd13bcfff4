"""Benchmarks on ranks: every rank measures, rank 0 prints what the parent process reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TypeVar

import torch.distributed as dist

from tools.process_group import gloo_group
from tools.ranks import on_loopback, run, torchrun

Result = TypeVar("Result")  # a dataclass
_MARK = "RESULT "


def run_as_rank(measure: Callable[[], Iterable[object]]) -> None:
    """Print each result of `measure`, which is collective, in a Gloo group."""
    with gloo_group():
        for result in measure():
            if dist.get_rank() == 0:
                print(_MARK + json.dumps(asdict(result)), flush=True)


def measured_on(
    ranks: int,
    module: str,
    kind: type[Result],
    *arguments: str,
    around: Callable[[Sequence[str]], list[str]] = list,
) -> list[Result]:
    """What rank 0 of `module --rank` measured, on `ranks` processes of this machine over loopback.
    `around` makes their command one that does more. Ends the program when a rank fails."""
    command = torchrun(ranks, "-m", module, "--rank", *arguments)
    result = run(around(command), env=on_loopback())
    if result.returncode != 0:
        raise SystemExit(f"{ranks} ranks failed:\n{result.stdout}{result.stderr}")
    return results_in(result.stdout, kind)


def results_in(output: str, kind: type[Result]) -> list[Result]:
    lines = [line for line in output.splitlines() if line.startswith(_MARK)]
    return [kind(**json.loads(line.removeprefix(_MARK))) for line in lines]
