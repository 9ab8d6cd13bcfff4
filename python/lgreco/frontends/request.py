"""What the integrations of frameworks share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch.nn.parallel import DistributedDataParallel

from lgreco.compression import Compression
from lgreco.frontends.ddp import compress
from lgreco.methods import Level
from lgreco.policies import Policy


@dataclass(frozen=True)
class Request:
    """What a framework's user asked for, before the framework has made its DDP model.

    Args:
        method, policy, settings: as in `compress()`.
        exact_checkpoints: a checkpoint holds the states of all ranks, which resume bit for bit on
            as many ranks, in the memory of all of them on rank 0; otherwise one state that all
            ranks share.
    """

    method: Level
    policy: Policy | None = None
    exact_checkpoints: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def compress(self, ddp: DistributedDataParallel, grad_scaler: object) -> Compression:
        """`grad_scaler`: the one of the framework, or None. One in `settings` comes first."""
        settings: Any = {"grad_scaler": grad_scaler, **self.settings}
        return compress(ddp, self.method, self.policy, **settings)

    def state_of(self, compression: Compression) -> object:
        """What rank 0 is to save. Collective."""
        if self.exact_checkpoints:
            return compression.gathered_state_dict()
        return compression.portable_state_dict()


def load_state(compression: Compression, state: Any) -> None:
    """What `state_of` gave on rank 0, on any number of ranks. Collective."""
    is_exact = isinstance(state, list)
    compression.load_state_dict(state, world_size_change="mean" if is_exact else "fail")
