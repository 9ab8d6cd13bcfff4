"""The strategy of Fabric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.fabric.strategies import STRATEGY_REGISTRY, DDPStrategy
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lgreco.compression import Compression
from lgreco.errors import StateError
from lgreco.frontends.request import Request, load_state
from lgreco.methods import Level
from lgreco.policies import LGreCo, Policy

STATE = "lgreco"  # the key in checkpoints
PLANS = LGreCo()


class LGreCoFabricStrategy(DDPStrategy):
    """`DDPStrategy` with compressed gradients: of every module that `fabric.setup()` wraps.

    The loss's scale is read from the precision plugin. `fabric.save()` adds the compressions'
    states to what it is given, and `fabric.load()` into a state dictionary loads them.

    Args: as of `LGreCoStrategy`.
    """

    def __init__(
        self,
        method: Level = "low_rank:4",
        policy: Policy | None = PLANS,
        *,
        exact_checkpoints: bool = False,
        settings: Mapping[str, Any] | None = None,
        **ddp: Any,
    ) -> None:
        super().__init__(**ddp)
        self._request = Request(method, policy, exact_checkpoints, settings or {})
        self._compressions: list[Compression] = []

    @property
    def compressions(self) -> list[Compression]:
        """In the order in which modules were set up."""
        return list(self._compressions)

    def setup_module(self, module: nn.Module) -> DistributedDataParallel:
        ddp: DistributedDataParallel = super().setup_module(module)
        scaler = getattr(self.precision, "scaler", None)
        self._compressions.append(self._request.compress(ddp, scaler))
        return ddp

    def save_checkpoint(
        self, path: Any, state: dict[str, Any], storage_options: Any = None, filter: Any = None
    ) -> None:
        """Called on every rank; rank 0 writes."""
        states = [self._request.state_of(one) for one in self._compressions]
        super().save_checkpoint(path, state | {STATE: states}, storage_options, filter)

    def load_checkpoint(
        self, path: Any, state: Any = None, strict: bool = True, weights_only: bool | None = None
    ) -> dict[str, Any]:
        remainder: dict[str, Any] = super().load_checkpoint(path, state, strict, weights_only)
        if isinstance(state, dict) and state and STATE in remainder:
            states = remainder.pop(STATE)
            if len(states) != len(self._compressions):
                raise StateError(
                    f"[state] the checkpoint is of {len(states)} compressed models, and "
                    f"{len(self._compressions)} are set up; set up the same, then load"
                )
            for one, saved in zip(self._compressions, states, strict=True):
                load_state(one, saved)
        return remainder

    @classmethod
    def register_strategies(cls, strategy_registry: Any) -> None:
        """As Lightning does with its own."""
        strategy_registry.register(
            "ddp_lgreco",
            cls,
            description="DDP with compressed gradients: low_rank:4, with plans by L-GreCo",
        )


LGreCoFabricStrategy.register_strategies(STRATEGY_REGISTRY)
