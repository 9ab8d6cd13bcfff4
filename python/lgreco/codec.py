"""Compress a single array, outside of any training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lgreco import _core
from lgreco.arguments import require_real_array, require_shape, require_whole, shown
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
    values = require_real_array("[encode] the array", array)
    if values.dtype.newbyteorder("=") not in _DTYPES:
        raise ConfigError(
            f"[encode] the array is {values.dtype}; convert it to float32 (or float16) first"
        )
    flat = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(flat).all():
        raise ConfigError("[encode] the array holds NaN or infinite values")
    return _core.encode(flat.ravel(), list(values.shape), str(as_method(method)), seed, step)


def decode(
    payload: bytes | bytearray | memoryview, shape: Sequence[int], method: Level
) -> np.ndarray:
    """The float32 array that `payload`, which is bytes or like them, stands for.

    Raises ProtocolError on any damaged payload; ConfigError on a payload or shape that is none.
    """
    dims = require_shape("[decode] shape", shape)
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise ConfigError(f"[decode] the payload must be bytes, not {shown(payload)}")
    return _core.decode(bytes(payload), dims, str(as_method(method))).reshape(dims)


def payload_bytes(method: Level, shape: Sequence[int]) -> int:
    """Exact length of `encode(array, method)` for an array of this shape."""
    return _core.payload_bytes(
        str(as_method(method)), require_shape("[payload_bytes] shape", shape)
    )
