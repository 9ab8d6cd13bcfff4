"""Checks that several functions make of their arguments."""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeGuard

import numpy as np

from lgreco.errors import ConfigError

_MOST = 2**64 - 1  # what the C++ core counts up to
_MOST_ELEMENTS = 2**40
_MOST_DIMENSIONS = 64

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


def shown(value: object) -> str:
    """`repr(value)` for messages: short, on one line, and without what a terminal acts upon."""
    text = " ".join(_short.repr(value).split())
    return text.encode("ascii", errors="backslashreplace").decode()


def printable(text: str) -> str:
    """`text` without what a terminal acts upon or cannot show."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def is_list(value: object) -> TypeGuard[Sequence[Any]]:
    """It can be counted and walked through, and is no text."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)


def require_whole(name: str, value: object, least: int = 0, most: int = _MOST) -> None:
    """`name`: tag and name of the argument, as in "[encode] seed". Raises ConfigError."""
    if isinstance(value, bool) or not (isinstance(value, Integral) and least <= int(value) <= most):
        limit = f" and at most {most}" if most < _MOST else ""
        raise ConfigError(
            f"{name} must be a whole number of at least {least}{limit}, not {shown(value)}"
        )


def require_number(name: str, value: object) -> float:
    """A real number that fits a float, NaN and infinity included. Raises ConfigError."""
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    raise ConfigError(f"{name} must be a number, not {shown(value)}")


def require_text(name: str, value: object) -> str:
    """Text that can be encoded. Raises ConfigError."""
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be text, not {shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{name} cannot be encoded: {shown(value)}") from error
    return value


def require_shape(name: str, shape: object) -> list[int]:
    """Sizes of the dimensions of an array. Raises ConfigError."""
    if isinstance(shape, str | bytes) or not isinstance(shape, Sequence):
        raise ConfigError(f"{name} must be a tuple of whole numbers, not {shown(shape)}")
    if len(shape) > _MOST_DIMENSIONS:
        raise ConfigError(f"{name} has {len(shape)} dimensions; {_MOST_DIMENSIONS} are possible")
    elements = 1
    for size in shape:
        require_whole(f"{name}: a dimension", size)
        elements *= max(int(size), 1)
    if elements > _MOST_ELEMENTS:
        raise ConfigError(f"{name} {shown(shape)} is of more than 2**40 elements")
    return [int(size) for size in shape]


def require_real_array(name: str, value: object) -> np.ndarray:
    """An array of real numbers. Raises ConfigError."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RecursionError, OverflowError, MemoryError) as error:
        raise ConfigError(f"{name} is no array: {shown(value)}") from error
    if array.dtype.kind not in "fiu":
        raise ConfigError(f"{name} is {array.dtype}; it must be real")
    return array
