"""Checks that several functions make of their arguments."""

from __future__ import annotations

from numbers import Integral

from lgreco.errors import ConfigError

_MOST = 2**64 - 1  # what the C++ core counts up to


def require_whole(name: str, value: object, least: int = 0) -> None:
    """`name`: tag and name of the argument, as in "[encode] seed". Raises ConfigError."""
    if isinstance(value, bool) or not (
        isinstance(value, Integral) and least <= int(value) <= _MOST
    ):
        raise ConfigError(f"{name} must be a whole number of at least {least}, not {value!r}")
