"""What users hold of a model that is trained on several ranks, and what is in it.

Compilers, frameworks and containers wrap the module that synchronises gradients. It is found by
what it is, wherever it is, and whatever the wrapper is called: no framework is known here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.nn.parallel import DataParallel, DistributedDataParallel

from lgreco.errors import ConfigError
from lgreco.torch_internals import is_replicated

_SYNCHRONISING = (DistributedDataParallel, FSDPModule, FullyShardedDataParallel, DataParallel)


def synchronising_part(model: object, tag: str) -> nn.Module | None:
    """The outermost module of `model` that synchronises gradients: a DDP or FSDP2 module, or one
    that `replicate()` was applied to. None: there is none.

    Raises ConfigError, with the call to make instead, on what is no module, when there are several,
    and on modules that do not take a hook.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"[{tag}] the model is a {type(model).__name__}, and no torch.nn.Module; give the "
            "model that is trained, as the framework has prepared it"
        )
    parts = {id(part): (name, part) for name, part in _outermost(model, "")}
    if len(parts) > 1:
        names = ", ".join(repr(name) for name, _ in parts.values())
        raise ConfigError(
            f"[{tag}] the model holds {len(parts)} modules that synchronise gradients: {names}; "
            "compress each DDP model by a call of its own, and shard the root of an FSDP2 model, "
            "too: fully_shard(model, mesh=...)"
        )
    for _, part in parts.values():
        if isinstance(part, FullyShardedDataParallel):
            raise ConfigError(
                f"[{tag}] the model is sharded by FullyShardedDataParallel; shard it by "
                "torch.distributed.fsdp.fully_shard, over a mesh of replicas and shards, and call "
                "lgreco.compress_replicas(model, ...)"
            )
        if isinstance(part, DataParallel):
            raise ConfigError(
                f"[{tag}] DataParallel is one process; start one for each device and wrap the "
                "model by torch.nn.parallel.DistributedDataParallel"
            )
        return part
    return None


def is_alone() -> bool:
    """Whether this process trains by itself, so that nothing is to be synchronised."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size() == 1
    return int(os.environ.get("WORLD_SIZE", "1")) == 1  # as launchers tell


def _outermost(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(module, _SYNCHRONISING) or is_replicated(module):
        yield name, module
        return
    for child_name, child in module.named_children():
        yield from _outermost(child, f"{name}.{child_name}" if name else child_name)
