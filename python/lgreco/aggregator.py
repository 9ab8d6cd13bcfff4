"""Compressed averaging of named tensors over the ranks of a process group.

What outer-step (DiLoCo-style) synchronisation and own training loops use directly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from lgreco.arguments import require_shape, require_text, shown
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
        if process_group is not None and not isinstance(process_group, dist.ProcessGroup):
            raise ConfigError(
                f"[compress] process_group must be a process group, not {shown(process_group)}"
            )
        super().__init__(
            [
                (require_text("[compress] the name of a layer", name), _as_tensor(name, layer))
                for name, layer in layers.items()
            ],
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
        problem = _problem_with(tensors)
        self._engine.average_({} if problem else dict(tensors), problem)


def _problem_with(tensors: object) -> str:
    """Why these cannot be averaged, if so: the other ranks must be told, too."""
    if not isinstance(tensors, Mapping):
        return f"[aggregator] tensors must map names to tensors, not be {shown(tensors)}"
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            return f"[aggregator] layer {shown(name)} must be a tensor, not {shown(tensor)}"
        try:
            require_text("[aggregator] the name of a layer", name)
        except ConfigError as error:
            return str(error)
    return ""


def _as_tensor(name: str, layer: torch.Tensor | Sequence[int]) -> torch.Tensor:
    if isinstance(layer, torch.Tensor):
        return layer.detach()
    if not isinstance(layer, Sequence) or isinstance(layer, str | bytes):
        raise ConfigError(
            f"[compress] layer {shown(name)} is {shown(layer)}; give a tensor or a shape"
        )
    shape = require_shape(f"[compress] layer {shown(name)}: the shape", layer)
    return shape_only(shape, torch.float32)
