"""Compressed averaging of named tensors over the ranks of a process group.

`Aggregator` is what `compress()` builds on, and what outer-step (DiLoCo-style) synchronisation and
own training loops use directly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist

from lgreco import _torch
from lgreco.errors import ConfigError, StateError
from lgreco.methods import Method
from lgreco.plan import Plan
from lgreco.policies import Policy, Uniform

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
        policy: Policy,
        *,
        error_feedback: bool,
        seed: int,
        start: int,
        timeout: float | None,
        process_group: dist.ProcessGroup | None,
    ) -> None:
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
        if seed < 0 or start < 0:
            raise ConfigError(f"[compress] seed ({seed}) and start ({start}) cannot be negative")
        if timeout is not None and timeout <= 0:
            raise ConfigError(f"[compress] timeout ({timeout} s) must be positive")
        seconds = _DEFAULT_TIMEOUT_SECONDS if timeout is None else float(timeout)
        self._engine = _torch.Aggregator(
            layers=list(layers),
            method=str(method),
            policy=policy.settings([name for name, _ in layers], method),
            error_feedback=error_feedback,
            seed=seed,
            start=start,
            group=_own_group(process_group, seconds),
            timeout=seconds,
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

    def state_dict(self) -> dict[str, object]:
        """Everything this rank needs to go on bit for bit: tensors and numbers by layer name.

        Each rank saves its own. `torch.load(..., weights_only=True)` reads it.
        """
        return {"format": STATE_FORMAT, **self._engine.state()}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """All or nothing.

        Raises StateError on another rank's state, another world size, another model or another
        format; the live state is untouched then.
        """
        if not isinstance(state, Mapping) or state.get("format") != STATE_FORMAT:
            found = state.get("format") if isinstance(state, Mapping) else type(state).__name__
            raise StateError(
                f"[state] format is {found!r}, this version reads {STATE_FORMAT}; "
                "pass what state_dict() returned"
            )
        self._engine.load_state(dict(state))


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
    ) -> None:
        super().__init__(
            [(name, _as_tensor(layer)) for name, layer in layers.items()],
            method,
            Uniform() if policy is None else policy,
            error_feedback=error_feedback,
            seed=seed,
            start=start,
            timeout=timeout,
            process_group=process_group,
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
