"""Methods: what one layer's gradient becomes.

`str(m)` gives the level's spelling, such as `low_rank:4`, and `method()` parses it. Spellings are
the interface to the C++ core, which checks them, and stand in plans and on the command line.
"""

from __future__ import annotations

from dataclasses import dataclass

from lgreco import _core


@dataclass(frozen=True)
class Method:
    """Base of all methods. Raises ConfigError when constructed with a parameter out of range."""

    def __post_init__(self) -> None:
        str(self)

    def __str__(self) -> str:
        return _core.normalise_level(self._full_spelling())

    def _full_spelling(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class Dense(Method):
    """No compression: float32 sums."""

    def _full_spelling(self) -> str:
        return "dense"


@dataclass(frozen=True)
class Cast(Method):
    """16-bit values, `dtype` "bf16" or "fp16", summed in float32."""

    dtype: str = "bf16"

    def _full_spelling(self) -> str:
        return f"cast:{self.dtype}"


@dataclass(frozen=True)
class Quantize(Method):
    """`bits` (1 to 8) per value, with one range per `bucket` values (QSGD, min-max).

    `rounding` is "stochastic", which is unbiased, or "nearest".
    """

    bits: int = 4
    bucket: int = 1024
    rounding: str = "stochastic"

    def _full_spelling(self) -> str:
        return f"quantize:{self.bits}:bucket={self.bucket}:rounding={self.rounding}"


@dataclass(frozen=True)
class TopK(Method):
    """The `density` share of largest magnitudes, with `values` as "bf16" or "fp32"."""

    density: float = 0.01
    values: str = "bf16"

    def _full_spelling(self) -> str:
        return f"topk:{self.density}:values={self.values}"


@dataclass(frozen=True)
class PowerSGD(Method):
    """Low rank: an n x m layer as factors of `rank` columns, sent as `factors` "fp32" or "bf16".

    A layer is compressed when `min_ratio * (n + m) * rank < n * m`.
    """

    rank: int = 4
    min_ratio: float = 2.0
    factors: str = "fp32"

    def _full_spelling(self) -> str:
        return f"low_rank:{self.rank}:min_ratio={self.min_ratio}:factors={self.factors}"


def method(spelling: str) -> Method:
    """Parse a spelling: `method("low_rank:4") == PowerSGD(rank=4)`. Raises ConfigError."""
    parts = _core.parse_level(spelling)
    return _CONSTRUCTORS[parts["method"]](parts)


_CONSTRUCTORS = {
    "dense": lambda parts: Dense(),
    "cast": lambda parts: Cast(parts["values"]),
    "quantize": lambda parts: Quantize(int(parts["parameter"]), parts["bucket"], parts["rounding"]),
    "topk": lambda parts: TopK(parts["parameter"], parts["values"]),
    "low_rank": lambda parts: PowerSGD(
        int(parts["parameter"]), parts["min_ratio"], parts["factors"]
    ),
}
