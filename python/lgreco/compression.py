"""What compresses one model on one rank."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
import torch.distributed as dist

from lgreco import _torch
from lgreco.errors import ConfigError
from lgreco.methods import Method
from lgreco.plan import Plan
from lgreco.policies import Accordion, Policy, checked_policy
from lgreco.process_groups import own_groups
from lgreco.settings import Settings, engine_settings

STATE_FORMAT = 1
_DEFAULT_TIMEOUT_SECONDS = 1800.0


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
        if not isinstance(method, Method):
            raise ConfigError(
                f"[compress] method must be an lgreco method such as lgreco.PowerSGD(rank=4), "
                f"not {method!r}"
            )
        if not layers:
            raise ConfigError("[compress] there is no layer to synchronise")
        self._policy = checked_policy(policy)
        policy_settings = self._policy.settings([name for name, _ in layers], method)
        timeout = _DEFAULT_TIMEOUT_SECONDS if settings["timeout"] is None else settings["timeout"]
        groups = own_groups(process_group, settings["lanes"], timeout)
        self._engine = _torch.Aggregator(
            layers=list(layers),
            method=str(method),
            policy=policy_settings,
            settings=engine_settings(settings, timeout),
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

        `residuals`, `factors`, `staging` (the messages of a step), and `windows` (what plans and
        Accordion's decisions are made from).
        """
        return self._engine.memory()

    @property
    def micro_batches(self) -> int:
        """How many batches to accumulate (under `no_sync()`) before the coming synchronisation.

        What `Accordion(micro_batches=...)` decided; 1 under other policies. The same on every rank.
        """
        if not isinstance(self._policy, Accordion):
            return 1
        critical, stable = self._policy.micro_batches
        return critical if self._engine.in_critical_regime() else stable

    def on_lr_change(self, old: float, new: float) -> None:
        """Tell Accordion that the learning rate changes from `old` to `new` with the coming step.

        A decay means low compression until the next decision. Call it on every rank, for the steps
        of a step-wise schedule: a rate that decays in every step would keep compression low for
        ever. Without effect under other policies. Waits for the step in flight; raises ConfigError
        in the middle of a step, and unless both rates are finite and not negative.
        """
        self._engine.on_learning_rate_change(float(old), float(new))

    def set_grad_scale(self, scale: float) -> None:
        """Gradients are multiplied by `scale` from the next step on; call it on every rank.

        With `torch.amp.GradScaler`: `compression.set_grad_scale(scaler.get_scale())` after each
        `scaler.update()`. What was kept is converted, exactly for powers of two. Raises ConfigError
        unless `scale` is positive and finite.
        """
        self._engine.set_grad_scale(scale)

    @contextlib.contextmanager
    def trace(self, path: str | Path) -> Iterator[None]:
        """Record what this rank's threads do in the block, as Chrome-trace JSON in `path`.

        Ranks that trace at once need paths of their own. Open one in chrome://tracing or
        https://ui.perfetto.dev. Tracks: backward, encode, lane A, lane B, planner.
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
        """Collective, and all or nothing: when anything is wrong on any rank, all ranks raise
        StateError, and their live states are untouched.

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
        states = list(state) if isinstance(state, list | tuple) else [state]
        problem = _problem_with(states, world_size_change)
        dicts = [] if problem else [dict(one) for one in states]
        self._engine.load_state(dicts, world_size_change, problem)


def _problem_with(states: Sequence[object], world_size_change: str) -> str:
    """Why these cannot be loaded, if so: the other ranks must be told, too."""
    if not states or (len(states) > 1 and world_size_change != "mean"):
        return (
            f"[state] {len(states)} states were given; pass this rank's own, "
            "or those of all ranks with world_size_change='mean'"
        )
    for state in states:
        found = state.get("format") if isinstance(state, Mapping) else type(state).__name__
        if found != STATE_FORMAT:
            return (
                f"[state] format is {found!r}, this version reads {STATE_FORMAT}; "
                "pass what state_dict() returned"
            )
    return ""
