"""Compressed averaging of named tensors over the ranks of a process group.

What outer-step (DiLoCo-style) synchronisation and own training loops use directly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from lgreco.arguments import require_whole, shown
from lgreco.compression import Compression, shape_only
from lgreco.errors import ConfigError
from lgreco.methods import Level
from lgreco.policies import Policy
from lgreco.settings import SettingsKeywords, checked_settings, takes_settings

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Aggregator(Compression):
    """Averages named tensors over the ranks, compressed; a step is one call of `average_`.

    `layers` maps each name to a tensor or to a shape (float32 then). All ranks pass the same. The
    other arguments are those of `compress()`.
    """

    @takes_settings(SettingsKeywords)
    def __init__(
        self,
        layers: Mapping[str, torch.Tensor | Sequence[int]],
        method: Level,
        policy: Policy | None = None,
        *,
        process_group: dist.ProcessGroup | None = None,
        **settings: Unpack[SettingsKeywords],
    ) -> None:
        checked = checked_settings("Aggregator()", settings)
        if not isinstance(layers, Mapping):
            raise ConfigError(
                f"[compress] layers is a {type(layers).__name__}; it must map names to tensors "
                "or shapes"
            )
        super().__init__(
            [(name, _as_tensor(name, layer)) for name, layer in layers.items()],
            method,
            policy,
            checked,
            process_group=process_group,
            layers_are_parameters=False,
        )

    def average_(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Replace each tensor by its average over the ranks, in place. Collective.

        Tensors may be on the CPU or on accelerators, whose current stream then waits for the
        averages to be there. A layer that this rank does not give counts as zero here (and one that
        nobody gives, as not there). Give what the others give, unless that is meant.

        Raises ConfigError, on all ranks, on an unknown name, another shape, and a tensor whose
        elements have no memory of their own; PeerError when a peer fails.
        """
        self._before_pass()
        self._engine.average_(dict(tensors))


def _as_tensor(name: str, layer: torch.Tensor | Sequence[int]) -> torch.Tensor:
    if isinstance(layer, torch.Tensor):
        return layer.detach()
    if not isinstance(layer, Sequence) or isinstance(layer, str):
        raise ConfigError(f"[compress] layer '{name}' is {shown(layer)}; give a tensor or a shape")
    for length in layer:
        require_whole(f"[compress] layer '{name}': a length", length)
    return shape_only(layer, torch.float32)
