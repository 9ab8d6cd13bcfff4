"""Watches a training program's first DDP model for some steps, then ends the program."""

import dataclasses
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel

from lgreco.advise.advice import Measurements
from lgreco.advise.device import DeviceClock, ranks_of_node, seconds_in_node, seconds_to_copy
from lgreco.advise.levels import time_levels
from lgreco.advise.network import slowest, time_network
from lgreco.errors import ConfigError
from lgreco.frontends.ddp import is_hooked
from lgreco.process_groups import own_groups, timeout_seconds_of
from lgreco.step_time import early_share

WARM_UP_STEPS = 5
TIMED_STEPS = 7
STEPS = WARM_UP_STEPS + 2 * TIMED_STEPS + 1  # the last one's gradients are kept
_DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


class ProbeFinished(SystemExit):
    """Ends the watched program once everything is measured."""


class Probe:
    """Warm-up, then steps as they are, then steps without communication, then one to keep.

    A step ends when the model is called again after a synchronised backward pass, so that gradient
    accumulation counts as one step. Use it as a context manager around the program, on all ranks;
    `measurements` is None until it has raised ProbeFinished in the program.
    """

    def __init__(self, levels: Sequence[str]) -> None:
        self.measurements: Measurements | None = None
        self.steps = 0
        self._levels = list(levels)
        self._ddp: DistributedDataParallel | None = None
        self._synchronised = False
        self._buckets: list[int] = []  # elements of each, of the last step
        self._boundaries: list[float] = []
        self._ready: list[Any] = []  # moments when the buckets of this step were
        self._windows: list[float] = []
        self._gradients: dict[int, np.ndarray] = {}

    def __enter__(self) -> "Probe":
        self._handle = register_module_forward_pre_hook(self._before_forward)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _before_forward(self, module: torch.nn.Module, _inputs: object) -> None:
        if not isinstance(module, DistributedDataParallel) or not torch.is_grad_enabled():
            return
        if self._ddp is None:
            self._watch(module)
        if module is self._ddp and (self._synchronised or not self._boundaries):
            self._step_begins(module)

    def _watch(self, ddp: DistributedDataParallel) -> None:
        _check(ddp)
        self._ddp = ddp
        self._clock = DeviceClock(next(ddp.parameters()).device)
        ddp.register_comm_hook(ddp.process_group, self._communicate)

    def _step_begins(self, ddp: DistributedDataParallel) -> None:
        self._clock.wait()
        self._boundaries.append(time.perf_counter())
        self.steps = len(self._boundaries) - 1
        self._synchronised = False
        if self._ready:
            self._windows.append(self._clock.seconds(self._ready[0], self._ready[-1]))
        self._ready = []
        if self.steps == STEPS:
            self.measurements = self._measure(ddp)
            raise ProbeFinished(0)

    # DDP compares these annotations with types, not with their names: none are postponed here.
    def _communicate(
        self,
        group: dist.ProcessGroup,
        bucket: dist.GradBucket,  # type: ignore[name-defined]
    ) -> torch.futures.Future[torch.Tensor]:
        if not self._ready:
            self._buckets = []
        self._ready.append(self._clock.now())
        self._buckets.append(bucket.buffer().numel())
        self._synchronised = True
        if self.steps < WARM_UP_STEPS + TIMED_STEPS:
            return allreduce_hook(group, bucket)
        if self.steps == STEPS - 1:
            for parameter, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True):
                self._gradients[id(parameter)] = gradient.detach().float().cpu().numpy().copy()
        done: torch.futures.Future[torch.Tensor] = torch.futures.Future(devices=self._clock.devices)
        done.set_result(bucket.buffer())
        return done

    def _measure(self, ddp: DistributedDataParallel) -> Measurements:
        group = ddp.process_group
        over_gloo = own_groups(group, 1, timeout_seconds_of(group)).lanes[0]
        layers = {
            name: (self._gradients[id(parameter)], parameter)
            for name, parameter in ddp.module.named_parameters()
            if id(parameter) in self._gradients
        }
        seconds = np.diff(self._boundaries)
        ddp_s, compute_s, window_s = slowest(
            over_gloo,
            statistics.median(seconds[WARM_UP_STEPS : WARM_UP_STEPS + TIMED_STEPS]),
            statistics.median(seconds[WARM_UP_STEPS + TIMED_STEPS : -1]),
            statistics.median(self._windows[WARM_UP_STEPS + TIMED_STEPS : -1]),
        )
        dtype = _DTYPES[next(iter(layers.values()))[1].dtype]
        levels = time_levels(
            {n: gradient for n, (gradient, _) in layers.items()}, self._levels, dtype
        )
        codecs = slowest(
            over_gloo, *(s for level in levels for s in (level.encode_s, level.decode_s))
        )
        in_node = ranks_of_node(group)
        gradients = [torch.zeros_like(parameter.detach()) for _, parameter in layers.values()]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        copy_s, node_s = slowest(
            over_gloo,
            seconds_to_copy(gradients, self._clock),
            seconds_in_node(flat, group, in_node, self._clock),
        )
        return Measurements(
            ranks=group.size(),
            ranks_of_node=in_node,
            copy_s=copy_s,
            node_s=node_s,
            layers=len(layers),
            gradient_bytes=sum(p.numel() * p.element_size() for _, p in layers.values()),
            buckets=len(self._buckets),
            compute_s=compute_s,
            ddp_s=ddp_s,
            window_s=window_s,
            early=early_share(self._buckets),
            network=time_network(over_gloo),
            levels=[
                dataclasses.replace(level, encode_s=encode_s, decode_s=decode_s)
                for level, encode_s, decode_s in zip(levels, codecs[::2], codecs[1::2], strict=True)
            ],
        )


def _check(ddp: DistributedDataParallel) -> None:
    if is_hooked(ddp):
        raise ConfigError(
            "[advise] the script gives DDP a communication hook of its own; for the probe, remove "
            "that call (lgreco.compress, register_comm_hook)"
        )
    if ddp.process_group.size() < 2:
        raise ConfigError("[advise] there is one rank; start the probe on at least 2")
    for name, parameter in ddp.module.named_parameters():
        if parameter.requires_grad and parameter.dtype not in _DTYPES:
            raise ConfigError(
                f"[advise] layer '{name}' is {parameter.dtype}; it must be one of "
                + ", ".join(_DTYPES.values())
            )
