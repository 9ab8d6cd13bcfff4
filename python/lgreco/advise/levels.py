"""What levels do to recorded gradients: bytes, what is lost, and how long it takes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lgreco import _core
from lgreco.codec import decode, encode, payload_bytes
from lgreco.errors import ConfigError
from lgreco.methods import method

DEFAULT_LEVELS = ("cast:bf16", "quantize:8", "quantize:4", "low_rank:4", "topk:0.01")
_REPETITIONS = 3
_ENOUGH_SECONDS = 1.0  # for one level; what takes longer is timed once


@dataclass(frozen=True)
class LevelTiming:
    """One level, on all layers of one gradient, with one thread.

    Attributes:
        payload_bytes: of all rounds, as one rank hands it over.
        lost: L2 norm of what is lost, as a share of the gradient's. Error feedback sends it later.
        encode_s, decode_s: seconds for the whole gradient once.
    """

    level: str
    payload_bytes: int
    lost: float
    encode_s: float
    decode_s: float


def time_levels(
    gradients: Mapping[str, np.ndarray], levels: Sequence[str], dtype: str = "fp32"
) -> list[LevelTiming]:
    """Each level, with layers that it does not suit sent dense, as in training.

    `dtype` is what the gradients have in training: "fp32", "bf16" or "fp16". Raises ConfigError on
    a gradient that is not finite.
    """
    for name, gradient in gradients.items():
        if not np.isfinite(gradient).all():
            raise ConfigError(
                f"[advise] the gradient of layer '{name}' is not finite in the probed step"
            )
    return [_time_level(gradients, level, dtype) for level in levels]


def _time_level(gradients: Mapping[str, np.ndarray], level: str, dtype: str) -> LevelTiming:
    resolved = {
        name: method(_core.resolve(level, list(gradient.shape), dtype))
        for name, gradient in gradients.items()
    }
    encoding, decoding = [], []
    lost = total = 0.0
    begin = time.perf_counter()
    for _ in range(_REPETITIONS):
        encode_s = decode_s = lost = total = 0.0
        for name, gradient in gradients.items():
            start = time.perf_counter()
            payload = encode(gradient, resolved[name])
            between = time.perf_counter()
            decoded = decode(payload, gradient.shape, resolved[name])
            decode_s += time.perf_counter() - between
            encode_s += between - start
            lost += float(np.sum(np.square(gradient - decoded, dtype=np.float64)))
            total += float(np.sum(np.square(gradient, dtype=np.float64)))
        encoding.append(encode_s)
        decoding.append(decode_s)
        if time.perf_counter() - begin > _ENOUGH_SECONDS:
            break
    return LevelTiming(
        level=level,
        payload_bytes=sum(payload_bytes(resolved[n], g.shape) for n, g in gradients.items()),
        lost=math.sqrt(lost / total) if total else 0.0,
        encode_s=min(encoding),
        decode_s=min(decoding),
    )
