"""Cost tables: what each level would cost each layer, in bytes and in error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lgreco import _core
from lgreco.codec import payload_bytes
from lgreco.errors import ConfigError
from lgreco.methods import Level, Method, method


@dataclass(frozen=True)
class CostTable:
    """Rows are layers, columns are levels.

    Attributes:
        names: of the layers.
        levels: the methods.
        costs: float64, payload bytes.
        errors: float64, L2 norm of what the level loses of the layer: PowerSGD after its power
            iteration has converged, stochastic rounding as the root of the expected square, the
            other methods as `decode(encode(layer))` would lose it, within 1 %. NaN for a layer that
            is not finite; infinite where a value overflows the type it is sent in.
    """

    names: list[str]
    levels: list[Method]
    costs: np.ndarray
    errors: np.ndarray


def cost_table(
    gradients: Mapping[str, np.ndarray], levels: Sequence[Level], pieces: int = 1
) -> CostTable:
    """Measure every level, a method or its spelling, on every layer. Raises ConfigError on an array
    that is not real.

    `pieces`: into how many pieces layers are cut that are encoded one by one, as for a sum over so
    many ranks. Errors of TopK depend on it, since each piece keeps its own largest values; costs
    are those of whole layers.
    """
    methods = [method(level) for level in levels]
    spellings = [str(level) for level in methods]
    costs = np.empty((len(gradients), len(methods)))
    errors = np.empty_like(costs)
    for row, (name, gradient) in enumerate(gradients.items()):
        array = np.asarray(gradient)
        if array.dtype.kind not in "fiu":
            raise ConfigError(f"[cost_table] layer '{name}' is {array.dtype}; it must be real")
        flat = np.ascontiguousarray(array, dtype=np.float32).ravel()
        costs[row] = [payload_bytes(level, array.shape) for level in methods]
        errors[row] = _core.analyze(flat, list(array.shape), spellings, pieces)
    return CostTable(list(gradients), methods, costs, errors)
