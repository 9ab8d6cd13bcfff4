"""Which ranks are a node, and which of them owns a layer there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch.distributed as dist

from lgreco.errors import ConfigError, MismatchError

# What compress() was asked for, as the ranks tell each other.
FLAT, AUTO, GROUP = range(3)
_IN_WORDS = {FLAT: "None", AUTO: "'auto'", GROUP: "a process group"}


def kind_of(node: object) -> int:
    return FLAT if node is None else AUTO if node == "auto" else GROUP


def proposed(node: Any, members: dist.ProcessGroup) -> list[int]:
    """The ranks of `members` in this rank's node, as this rank sees it; none when it cannot tell.

    "auto": from what torchrun says of the ranks on this machine, when they are consecutive.
    """
    if node is None:
        return []
    everybody = dist.get_process_group_ranks(members)
    is_auto = node == "auto"
    here = _consecutive_ranks_here() if is_auto else set(dist.get_process_group_ranks(node))
    return [rank for rank, of_world in enumerate(everybody) if of_world in here]


def _consecutive_ranks_here() -> set[int]:
    rank, size = dist.get_rank(), dist.get_world_size()
    try:
        ranks_here = int(os.environ["LOCAL_WORLD_SIZE"])
        place = int(os.environ.get("LOCAL_RANK", rank % ranks_here))
    except (KeyError, ValueError, ZeroDivisionError):
        return set()
    if ranks_here < 1 or size % ranks_here or place != rank % ranks_here:
        return set()
    first = rank - place
    return set(range(first, first + ranks_here))


def agreed(kinds: Sequence[int], nodes: Sequence[list[int]]) -> list[list[int]] | None:
    """The nodes, each with its ranks, by what each rank asked for and proposed; None for flat.

    The same on every rank, as is the error: MismatchError when the ranks asked for different kinds,
    ConfigError when the groups they gave are not nodes of equal size.
    """
    for rank, kind in enumerate(kinds):
        if kind != kinds[0]:
            raise MismatchError(
                f"[compress] the ranks differ in node: rank 0 has {_IN_WORDS[kinds[0]]}, rank "
                f"{rank} has {_IN_WORDS[kind]}; call it with equal arguments on every rank"
            )
    for rank, node in enumerate(nodes):
        is_shared = rank in node and all(nodes[other] == node for other in node)
        if not is_shared or len(node) != len(nodes[0]):
            if kinds[0] != GROUP:
                return None
            raise ConfigError(
                "[compress] node: the groups must divide the ranks into nodes of equal size; rank "
                f"0 gave one of the ranks {nodes[0]}, rank {rank} one of {node}"
            )
    distinct = [node for rank, node in enumerate(nodes) if rank == node[0]]
    return distinct if len(distinct) > 1 and len(distinct[0]) > 1 else None


def owners_of(layer_bytes: Sequence[int], ranks: int) -> list[int]:
    """Of each layer, the rank in the node that owns it: in turn, whoever owns least."""
    owned = [0] * ranks
    owners = []
    for size in layer_bytes:
        owner = owned.index(min(owned))
        owned[owner] += size
        owners.append(owner)
    return owners
