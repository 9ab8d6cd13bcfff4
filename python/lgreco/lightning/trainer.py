"""The strategy of Lightning's Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry

from lgreco.compression import Compression
from lgreco.frontends.request import Request, load_state
from lgreco.methods import Level
from lgreco.policies import LGreCo, Policy

STATE = "lgreco"  # the key in checkpoints
PLANS = LGreCo()


class LGreCoStrategy(DDPStrategy):
    """`DDPStrategy` with compressed gradients.

    The loss's scale is read from the precision plugin. Checkpoints that hold optimizers hold the
    compression's state, too, and `trainer.fit(ckpt_path=...)` loads it on any number of ranks.

    Args:
        method: the reference level, such as "low_rank:4" or `lgreco.PowerSGD(rank=4)`.
        policy: as in `lgreco.compress()`, but `lgreco.LGreCo()` unless given.
        exact_checkpoints: checkpoints hold all ranks' states, and resume bit for bit, instead of
            one state that the ranks share.
        settings: further keywords of `lgreco.compress()`.
        ddp: what `DDPStrategy` takes.
    """

    strategy_name = "ddp_lgreco"

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
        self._compression: Compression | None = None

    @property
    def compression(self) -> Compression | None:
        """Of the newest `fit()`; None before its model is wrapped."""
        return self._compression

    def configure_ddp(self) -> None:
        super().configure_ddp()
        scaler = getattr(self.precision_plugin, "scaler", None)
        self._compression = self._request.compress(self.model, scaler)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        """Called on every rank; rank 0 writes."""
        if self._compression is not None and "optimizer_states" in checkpoint:
            checkpoint[STATE] = self._request.state_of(self._compression)
        super().save_checkpoint(checkpoint, filepath, storage_options)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        super().load_optimizer_state_dict(checkpoint)
        if self._compression is not None and STATE in checkpoint:
            load_state(self._compression, checkpoint[STATE])

    @classmethod
    def register_strategies(cls, strategy_registry: Any) -> None:
        """As Lightning does with its own."""
        for suffix, ddp in (
            ("", {}),
            ("_find_unused_parameters_true", {"find_unused_parameters": True}),
        ):
            strategy_registry.register(
                cls.strategy_name + suffix,
                cls,
                description="DDP with compressed gradients: low_rank:4, with plans by L-GreCo",
                **ddp,
            )


LGreCoStrategy.register_strategies(StrategyRegistry)
