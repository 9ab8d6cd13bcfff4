"""Compress a single array, outside of any training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lgreco import _core
from lgreco.arguments import require_whole
from lgreco.errors import ConfigError
from lgreco.methods import Level
from lgreco.methods import method as as_method

_DTYPES = (np.float32, np.float16)


def encode(array: np.ndarray, method: Level, seed: int = 0, step: int = 0) -> bytes:
    """The payload of one layer: what a rank would send of it, all rounds together.

    `array` is float32 or float16, of any shape; a matrix is `array.reshape(shape[0], -1)`. Its size
    is that of `payload_bytes(method, shape)`, whatever the values are. Low rank stores P and Q.

    Raises ConfigError on another dtype, on values that are not finite, or that the method cannot
    represent, and on a negative `seed` or `step`.
    """
    require_whole("[encode] seed", seed)
    require_whole("[encode] step", step)
    values = np.asarray(array)
    if values.dtype not in _DTYPES:
        raise ConfigError(
            f"[encode] the array is {values.dtype}; convert it to float32 (or float16) first"
        )
    flat = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(flat).all():
        raise ConfigError("[encode] the array holds NaN or infinite values")
    return _core.encode(flat.ravel(), list(values.shape), str(as_method(method)), seed, step)


def decode(payload: bytes, shape: Sequence[int], method: Level) -> np.ndarray:
    """The float32 array that `payload` stands for. Raises ProtocolError on any damaged payload."""
    return _core.decode(payload, list(shape), str(as_method(method))).reshape(tuple(shape))


def payload_bytes(method: Level, shape: Sequence[int]) -> int:
    """Exact length of `encode(array, method)` for an array of this shape."""
    return _core.payload_bytes(str(as_method(method)), list(shape))
