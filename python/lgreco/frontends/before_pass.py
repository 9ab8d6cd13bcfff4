"""The hook of a compressed model before each of its forward passes."""

from __future__ import annotations

import torch
from torch import nn

from lgreco.compression import Compression


class BeforePass:
    """Tells the compression that a forward pass begins whose gradients are wanted."""

    def __init__(self, compression: Compression) -> None:
        self._compression = compression  # which lives as long as the model, also when nobody has it

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, model: nn.Module, inputs: object) -> None:
        if torch.is_grad_enabled():
            self._compression._before_pass()

    def __reduce__(self) -> tuple[object, ...]:
        """A copy of the model is not compressed."""
        return _NothingBeforePass, ()


class _NothingBeforePass:
    def __call__(self, model: nn.Module, inputs: object) -> None:
        pass
