"""Compressed averaging of named tensors over the ranks of a process group.

`Aggregator` is what `compress()` builds on, and what outer-step (DiLoCo-style) synchronisation and
own training loops use directly.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from lgreco import _torch
from lgreco.errors import ConfigError, StateError
from lgreco.methods import Method
from lgreco.plan import Plan
from lgreco.policies import Policy, Uniform

STATE_FORMAT = 1
_DEFAULT_TIMEOUT_SECONDS = 1800.0


@dataclass(frozen=True)
class Settings:
    """The keyword arguments of `compress()` and `Aggregator`, checked. Raises ConfigError."""

    error_feedback: bool
    residual: str
    seed: int
    start: int
    timeout: float | None
    drift_check_every: int
    lanes: int
    threads: int | None

    def __post_init__(self) -> None:
        for name in ("seed", "start", "drift_check_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"[compress] {name} ({getattr(self, name)}) cannot be negative")
        if self.residual not in ("fp32", "bf16"):
            raise ConfigError(f"[compress] residual is {self.residual!r}; use 'fp32' or 'bf16'")
        if self.lanes not in (1, 2):
            raise ConfigError(f"[compress] lanes is {self.lanes!r}; there can be 1 or 2")
        if self.timeout is not None and self.timeout <= 0:
            raise ConfigError(f"[compress] timeout ({self.timeout} s) must be positive")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"[compress] threads ({self.threads}) must be at least 1")

    @property
    def timeout_seconds(self) -> float:
        return _DEFAULT_TIMEOUT_SECONDS if self.timeout is None else float(self.timeout)

    def of_engine(self) -> dict[str, object]:
        return {
            "error_feedback": self.error_feedback,
            "residual": self.residual,
            "seed": self.seed,
            "start": self.start,
            "drift_check_every": self.drift_check_every,
            "timeout": self.timeout_seconds,
            "threads": _spare_threads() if self.threads is None else self.threads,
        }


class Compression:
    """What compresses one model on this rank: its plan, its counters, its state.

    Not thread-safe towards the training loop: call between steps. `plan`, `stats` and `state_dict`
    wait for what is in flight.
    """

    def __init__(
        self,
        layers: Sequence[tuple[str, torch.Tensor]],
        method: Method,
        policy: Policy | None,
        settings: Settings,
        *,
        process_group: dist.ProcessGroup | None,
        layers_are_parameters: bool,
    ) -> None:
        policy = Uniform() if policy is None else policy
        if not isinstance(method, Method):
            raise ConfigError(
                f"[compress] method must be an lgreco method such as lgreco.PowerSGD(rank=4), "
                f"not {method!r}"
            )
        if not isinstance(policy, Policy):
            raise ConfigError(
                f"[compress] policy must be an lgreco policy such as lgreco.LGreCo(), "
                f"not {policy!r}"
            )
        if not layers:
            raise ConfigError("[compress] there is no layer to synchronise")
        policy_settings = policy.settings([name for name, _ in layers], method)
        timeout = settings.timeout_seconds
        groups = [_own_group(process_group, timeout) for _ in range(settings.lanes)]
        self._engine = _torch.Aggregator(
            layers=list(layers),
            method=str(method),
            policy=policy_settings,
            settings=settings.of_engine(),
            groups=groups,
            layers_are_parameters=layers_are_parameters,
        )

    @property
    def plan(self) -> Plan:
        """The plan of the coming step."""
        return Plan.from_dict(self._engine.plan())

    def stats(self) -> dict[str, float]:
        """Counters of this rank: bytes as a network interface counts them, times in seconds.

        `ratio` is `dense_bytes / bytes_sent`, where `dense_bytes` is what an uncompressed ring
        all-reduce of the same gradients sends.
        """
        stats = self._engine.stats()
        sent = stats["bytes_sent"]
        stats["ratio"] = stats["dense_bytes"] / sent if sent else 1.0
        return stats

    def memory(self) -> dict[str, int]:
        """Bytes that compression needs on this rank beyond the gradients, with the current plan.

        `residuals`, `factors`, `staging` (the messages of a step), and `windows` (only in the steps
        before a plan is made).
        """
        return self._engine.memory()

    def set_grad_scale(self, scale: float) -> None:
        """Gradients are multiplied by `scale` from the next step on; call it on every rank.

        With `torch.amp.GradScaler`: `compression.set_grad_scale(scaler.get_scale())` after each
        `scaler.update()`. What was kept is converted, exactly for powers of two. Raises ConfigError
        unless `scale` is positive and finite.
        """
        self._engine.set_grad_scale(scale)

    @contextlib.contextmanager
    def trace(self, path: str | Path) -> Iterator[None]:
        """Record what the library's threads do in the block, as Chrome-trace JSON in `path`.

        Open it in chrome://tracing or https://ui.perfetto.dev. Tracks: backward, encode, lane A,
        lane B.
        """
        self._engine.start_trace()
        try:
            yield
        finally:
            events = self._engine.stop_trace()
            shared = {"ph": "X", "pid": dist.get_rank()}
            Path(path).write_text(json.dumps({"traceEvents": [shared | e for e in events]}))

    def state_dict(self) -> dict[str, object]:
        """Everything this rank needs to go on bit for bit: tensors and numbers by layer name.

        Each rank saves its own. `torch.load(..., weights_only=True)` reads it.
        """
        return {"format": STATE_FORMAT, **self._engine.state()}

    def load_state_dict(
        self,
        state: Mapping[str, object] | Sequence[Mapping[str, object]],
        *,
        world_size_change: str = "fail",
    ) -> None:
        """All or nothing: when anything is wrong, the live state is untouched.

        Args:
            state: what `state_dict()` gave on this rank; for "mean", a list of all ranks' states.
            world_size_change: what to do when the run had another number of ranks.
                "fail": refuse. "mean": every rank starts with the mean of all old residuals, so
                that nothing of what was not sent yet is lost. "reset": residuals start at zero, and
                `state` may be that of any old rank.

        Raises StateError on another rank's state, another world size, another model, another
        format, a damaged state.
        """
        if world_size_change not in ("fail", "mean", "reset"):
            raise ConfigError(
                f"[state] world_size_change is {world_size_change!r}; use 'fail', 'mean' or 'reset'"
            )
        states = [state] if isinstance(state, Mapping) else list(state)
        if not states or (len(states) > 1 and world_size_change != "mean"):
            raise StateError(
                f"[state] {len(states)} states were given; pass this rank's own, "
                "or those of all ranks with world_size_change='mean'"
            )
        for one in states:
            found = one.get("format") if isinstance(one, Mapping) else type(one).__name__
            if found != STATE_FORMAT:
                raise StateError(
                    f"[state] format is {found!r}, this version reads {STATE_FORMAT}; "
                    "pass what state_dict() returned"
                )
        self._engine.load_state([dict(one) for one in states], world_size_change)


class Aggregator(Compression):
    """Averages named tensors over the ranks, compressed; a step is one call of `average_`.

    `layers` maps each name to a tensor or to a shape (float32 then). All ranks pass the same. The
    other arguments are those of `compress()`.
    """

    def __init__(
        self,
        layers: Mapping[str, torch.Tensor | Sequence[int]],
        method: Method,
        policy: Policy | None = None,
        *,
        process_group: dist.ProcessGroup | None = None,
        error_feedback: bool = True,
        seed: int = 0,
        start: int = 0,
        timeout: float | None = None,
        residual: str = "fp32",
        drift_check_every: int = 100,
        lanes: int = 2,
        threads: int | None = None,
    ) -> None:
        settings = Settings(
            error_feedback=error_feedback,
            residual=residual,
            seed=seed,
            start=start,
            timeout=timeout,
            drift_check_every=drift_check_every,
            lanes=lanes,
            threads=threads,
        )
        super().__init__(
            [(name, _as_tensor(layer)) for name, layer in layers.items()],
            method,
            policy,
            settings,
            process_group=process_group,
            layers_are_parameters=False,
        )

    def average_(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Replace each tensor by its average over the ranks, in place. Collective.

        Raises ConfigError on an unknown name or another shape, PeerError when a peer fails.
        """
        self._engine.average_(dict(tensors))


def _as_tensor(layer: torch.Tensor | Sequence[int]) -> torch.Tensor:
    if isinstance(layer, torch.Tensor):
        return layer.detach()
    return torch.empty(1).expand(tuple(layer)) if 0 not in layer else torch.empty(tuple(layer))


def _spare_threads() -> int:
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # as torchrun tells
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(4, (cores or 1) // ranks_here))


def _own_group(group: dist.ProcessGroup | None, timeout_seconds: float) -> dist.ProcessGroup:
    """A group that nobody else issues collectives on. Collective over the members of `group`."""
    if not dist.is_available() or not dist.is_initialized():
        raise ConfigError(
            "[compress] torch.distributed is not initialised; "
            "call torch.distributed.init_process_group() first"
        )
    members = dist.get_process_group_ranks(group if group is not None else dist.group.WORLD)
    return dist.new_group(
        ranks=members,
        backend="gloo",
        timeout=timedelta(seconds=timeout_seconds),
        use_local_synchronization=True,
    )
