"""Methods: what one layer's gradient becomes.

`str(m)` gives the level's spelling, such as `low_rank:4`, and `method()` parses it. Spellings are
the interface to the C++ core, which checks them, and stand in plans and on the command line.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from lgreco import _core
from lgreco.arguments import require_number, require_text, shown
from lgreco.brief import Brief
from lgreco.errors import ConfigError


@dataclass(frozen=True)
class Method(Brief):
    """Base of all methods. Raises ConfigError when constructed with a parameter out of range.

    A subclass is one method of the C++ table: `name` is its name there, its first field is the
    parameter and the others are the settings, in the types of their defaults.
    """

    name: ClassVar[str]

    def __post_init__(self) -> None:
        str(self)

    def __str__(self) -> str:
        texts = {field.name: self._text_of(field.name) for field in fields(self)}
        parameter = list(texts.values())[:1]
        settings = [f"{key}={text}" for key, text in list(texts.items())[1:]]
        return _core.normalise_level(":".join([self.name, *parameter, *settings]))

    def _text_of(self, field: str) -> str:
        value = getattr(self, field)
        where = f"[level] {type(self).__name__}: {field}"
        if isinstance(value, str):
            return require_text(where, value)
        require_number(where, value)
        return str(value)


@dataclass(frozen=True)
class Dense(Method):
    """No compression: float32 sums."""

    name = "dense"


@dataclass(frozen=True)
class Cast(Method):
    """16-bit values, `dtype` "bf16" or "fp16", summed in float32."""

    name = "cast"
    dtype: str = "bf16"


@dataclass(frozen=True)
class Quantize(Method):
    """`bits` (1 to 8) per value, with one grid per `bucket` values.

    "2+4" are 2 bits for what is averaged and 4 for the mean.
    `rounding` is "nearest" (Lloyd-Max grids, for error feedback) or "stochastic", which is unbiased
    and loses far more (uniform grids as in QSGD).
    """

    name = "quantize"
    bits: int | str = 4
    bucket: int = 512
    rounding: str = "nearest"


@dataclass(frozen=True)
class TopK(Method):
    """The `density` share of largest magnitudes, with values of "2" to "8" bits, "bf16" or
    "fp32".

    "0.03+0.1" are two densities, of what is averaged and of the mean.
    """

    name = "topk"
    density: float | str = 0.01
    values: str = "4"


@dataclass(frozen=True)
class Entropy(Method):
    """`rate` bits a value on average (0.01 to 8, any real number): one step for all values of a
    piece, as fine as an entropy code of the planned size allows.
    """

    name = "entropy"
    rate: float = 2.0


@dataclass(frozen=True)
class PowerSGD(Method):
    """Low rank: an n x m layer as factors of `rank` columns, sent as `factors`.

    These are "fp32", "bf16", or the bits of a number, 2 to 8. A layer is compressed when
    `min_ratio * (n + m) * rank < n * m`.
    """

    name = "low_rank"
    rank: int = 4
    min_ratio: float = 2.0
    factors: str | int = "fp32"

    def __post_init__(self) -> None:
        if isinstance(self.factors, str) and self.factors.isdecimal():
            object.__setattr__(self, "factors", int(self.factors))
        super().__post_init__()


Level = Method | str
"""What functions take for a level: a method, or its spelling."""


def method(level: Level) -> Method:
    """Of a spelling: `method("low_rank:4") == PowerSGD(rank=4)`; a method is what it is.

    Raises ConfigError on anything else.
    """
    if isinstance(level, Method):
        return level
    if not isinstance(level, str):
        raise ConfigError(
            f"[level] {shown(level)} is no level; give an lgreco method such as "
            "lgreco.PowerSGD(rank=4), or its spelling, such as 'low_rank:4'"
        )
    parts = _core.parse_level(require_text("[level] a spelling", level))
    of_class = _CLASSES[parts["method"]]
    texts = zip(fields(of_class), parts["values"].values(), strict=True)
    return of_class(*(_value(getattr(of_class, field.name), text) for field, text in texts))


def _value(default: float | str, text: str) -> float | str:
    """`text` in the type of `default`; two parameters, as in "2+4", stay text."""
    return text if "+" in text and not isinstance(default, str) else type(default)(text)


_CLASSES = {of_class.name: of_class for of_class in Method.__subclasses__()}
