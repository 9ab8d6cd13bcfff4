"""Quantities as people write them on a command line."""

from __future__ import annotations

import re

from lgreco.errors import ConfigError

_SCALES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BANDWIDTH = re.compile(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*(?:([kMGT]?)(bit|B))?(?:/s)?")
_SECONDS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
_DURATION = re.compile(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*(s|ms|us|µs)?")


def bandwidth(text: str) -> float:
    """In bytes per second: "1Gbit", "125MB", "1.25e8"; powers of 1000. Raises ConfigError."""
    found = _BANDWIDTH.fullmatch(text.strip())
    number = _number(found)
    if found is None or not number:
        raise ConfigError(
            f"[cli] {text!r} is no bandwidth; write 1Gbit, 10Mbit or 125MB (a second), "
            "or a number of bytes a second"
        )
    return number * _SCALES[found[2] or ""] / (8 if found[3] == "bit" else 1)


def seconds(text: str) -> float:
    """ "100us", "0.5ms", "1s", or a number of seconds. Raises ConfigError."""
    found = _DURATION.fullmatch(text.strip())
    number = _number(found)
    if found is None or number is None:
        raise ConfigError(f"[cli] {text!r} is no time; write 100us, 0.5ms or a number of seconds")
    return number * _SECONDS[found[2] or ""]


def _number(found: re.Match[str] | None) -> float | None:
    try:
        return None if found is None else float(found[1])
    except ValueError:
        return None


def show_bandwidth(bytes_per_second: float) -> str:
    """In bits, as networks are sold: "1 Gbit/s"."""
    return _scaled(8 * bytes_per_second, (("G", 1e9), ("M", 1e6), ("k", 1e3))) + "bit/s"


def show_bytes(count: float) -> str:
    return _scaled(count, (("G", 1e9), ("M", 1e6), ("k", 1e3))) + "B"


def show_seconds(value: float) -> str:
    if value >= 1:
        return f"{value:.3g} s"
    return f"{1e3 * value:.3g} ms" if value >= 1e-3 else f"{1e6 * value:.3g} us"


def _scaled(value: float, scales: tuple[tuple[str, float], ...]) -> str:
    prefix, scale = next(((p, s) for p, s in scales if value >= 0.9995 * s), ("", 1.0))
    return f"{value / scale:.3g} {prefix}"
