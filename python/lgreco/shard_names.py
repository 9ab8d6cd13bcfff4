"""How layers are named that are one rank's shard of a parameter."""

from __future__ import annotations

import re

_SHARD = re.compile(r" \(shard \d+ of \d+\)$")


def shard_name(parameter: str, shard: int, shards: int) -> str:
    """Of shard number `shard`, from 0 on; a parameter that is in one piece keeps its name."""
    return parameter if shards == 1 else f"{parameter} (shard {shard + 1} of {shards})"


def parameter_of(layer: str) -> str:
    """The name of the parameter that a layer is, or is a shard of."""
    return _SHARD.sub("", layer)
