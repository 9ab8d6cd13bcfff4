"""Runs the program that is probed: a script, a module, or a model that a factory makes."""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from lgreco.advise.advice import Measurements
from lgreco.advise.probe import STEPS, Probe, ProbeFinished
from lgreco.advise.target import is_factory
from lgreco.errors import ConfigError


def measure(target: str, arguments: Sequence[str], levels: Sequence[str]) -> Measurements:
    """Run it on this rank, which is one of a job's, until everything is measured.

    Raises ConfigError when the target does not train a DDP model for long enough, or cannot be run.
    """
    with Probe(levels) as probe:
        try:
            if is_factory(target):
                _train(_made_by(target))
            else:
                _run(target, arguments)
        except ProbeFinished:
            pass
        except SystemExit as exit:
            if exit.code:
                raise
    if probe.measurements is None:
        raise ConfigError(
            f"[advise] {target} ended after {probe.steps} steps of a DistributedDataParallel "
            f"model; the probe needs {STEPS} and one more forward pass"
        )
    return probe.measurements


def _run(target: str, arguments: Sequence[str]) -> None:
    """As `python target arguments` or `python -m target arguments` would."""
    if target.endswith(".py"):
        sys.argv = [target, *arguments]
        sys.path.insert(0, str(Path(target).resolve().parent))
        runpy.run_path(target, run_name="__main__")
    else:
        sys.argv = [target, *arguments]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(target, run_name="__main__", alter_sys=True)


Job = tuple[torch.nn.Module, Any, Callable[..., Any]]  # model, batch, loss


def _made_by(target: str) -> Job:
    module, _, factory = target.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        made = getattr(importlib.import_module(module), factory)()
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigError(f"[advise] {target}: cannot call it: {error}") from error
    if not isinstance(made, tuple) or len(made) != 3 or not isinstance(made[0], torch.nn.Module):
        raise ConfigError(
            f"[advise] {target} must return (model, batch, loss_function), where batch is "
            "(inputs, targets) and the loss is loss_function(model(inputs), targets)"
        )
    return made


def _train(job: Job) -> None:
    model, batch, loss_function = job
    inputs, *targets = batch if isinstance(batch, (tuple, list)) else [batch]
    dist.init_process_group("gloo")
    ddp = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=1e-6)  # the steps' time matters, not progress
    while True:
        optimizer.zero_grad()
        loss_function(_called(ddp, inputs), *targets).backward()
        optimizer.step()


def _called(model: torch.nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)
