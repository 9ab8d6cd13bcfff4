"""Compressed gradients in Accelerate.

model, optimizer, data = accelerator.prepare(model, optimizer, data)
compression = lgreco.accelerate.compress(accelerator, model, "low_rank:4")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn.parallel import DistributedDataParallel

from lgreco.compression import Compression
from lgreco.frontends.request import Request, load_state
from lgreco.methods import Level
from lgreco.policies import Policy
from lgreco.settings import DataParallelSettingsKeywords, takes_settings

if TYPE_CHECKING:
    from accelerate import Accelerator
    from typing_extensions import Unpack


@takes_settings(DataParallelSettingsKeywords)
def compress(
    accelerator: Accelerator,
    model: DistributedDataParallel,
    method: Level,
    policy: Policy | None = None,
    *,
    exact_checkpoints: bool = False,
    **settings: Unpack[DataParallelSettingsKeywords],
) -> Compression:
    """`lgreco.compress()` for a model that `accelerator.prepare()` returned.

    The accelerator's own `scaler` is `grad_scaler=` unless that is given, and
    `accelerator.save_state()` and `load_state()` carry the compression's state, to any number of
    ranks.

    Args:
        accelerator: that prepared the model; `save_state()` is called on every rank, as usual.
        model: what `prepare()` returned.
        method: the reference level, such as "low_rank:4" or `lgreco.PowerSGD(rank=4)`.
        policy: as in `lgreco.compress()`.
        exact_checkpoints: checkpoints hold all ranks' states, and resume bit for bit, instead of
            one state that the ranks share.
        {settings}

    Raises as `lgreco.compress()`.
    """
    request = Request(method, policy, exact_checkpoints, dict(settings))
    compression = request.compress(model, accelerator.scaler)
    accelerator.register_for_checkpointing(_Checkpointed(request, compression))
    return compression


class _Checkpointed:
    """What an accelerator saves and loads: it asks every rank, and rank 0 writes."""

    def __init__(self, request: Request, compression: Compression) -> None:
        self._request = request
        self._compression = compression

    def state_dict(self) -> Any:
        return self._request.state_of(self._compression)

    def load_state_dict(self, state: Any) -> None:
        load_state(self._compression, state)
