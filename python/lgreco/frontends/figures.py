"""What frameworks log of a compression."""

from __future__ import annotations

from lgreco.compression import Compression

LOGGED = ("ratio", "bytes_sent", "encode_s", "decode_s", "wait_s", "residual_norm")


def figures_of(compression: Compression) -> dict[str, float]:
    """Of this rank since the start, by name, as `lgreco/ratio`."""
    stats = compression.stats()
    return {f"lgreco/{name}": float(stats[name]) for name in LOGGED}
