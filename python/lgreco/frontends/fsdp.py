"""Compressed averaging between the replicas of a model sharded by FSDP2 (`fully_shard`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule

from lgreco.aggregator import Aggregator
from lgreco.compression import Compression
from lgreco.errors import ConfigError
from lgreco.methods import Method
from lgreco.policies import Policy, checked_policy
from lgreco.settings import ReplicaSettingsKeywords, checked_settings, takes_settings
from lgreco.torch_internals import ShardedGroup, meshes_of, sharded_groups

if TYPE_CHECKING:
    from typing_extensions import Unpack


@takes_settings(ReplicaSettingsKeywords)
def compress_replicas(
    module: FSDPModule,
    method: Method,
    policy: Policy | None = None,
    *,
    replicate_group: dist.ProcessGroup,
    **settings: Unpack[ReplicaSettingsKeywords],
) -> Compression:
    """Average gradient shards over `replicate_group`, compressed, from the next backward pass on.

    The model is sharded over a 1-D mesh, and each member of `replicate_group` holds the same shard
    of another replica, with equal parameters. Call it once, on every rank with the same arguments,
    after `fully_shard` and before the first backward pass.

    FSDP hands over one flat vector for each of its parameter groups. So a layer here is a group,
    named "module (shard 1 of 2)", and low rank does not apply: it needs matrices. The exchange of a
    group is part of the backward pass and does not overlap with it. `stats()["steps"]` counts
    exchanges: one for each group and backward pass.

    Args:
        module: made by `fully_shard`, on the CPU.
        method: the reference level: `Quantize`, `TopK`, `Cast` or `Dense`.
        policy: as in `compress()`; its steps, and `start`, are backward passes.
        replicate_group: the ranks with this rank's shard; its own Gloo group is made from it.
        {settings}

    Raises:
        ConfigError: not an FSDP module, one sharded over a 2-D mesh (FSDP averages those itself), a
            hook registered before, another device than the CPU, no parameter that requires a
            gradient, a setting out of range. In the backward pass: a parameter of a group had no
            gradient.
        MismatchError, PeerError: as `compress()`.
    """
    checked = checked_settings("compress_replicas()", settings, ReplicaSettingsKeywords)
    groups = _parameter_groups(module)
    passes = len(groups)
    policy = checked_policy(policy).stretched(passes)
    checked["start"] *= passes
    checked["lanes"] = 1  # an exchange has one bucket: nothing could overlap
    aggregator = Aggregator(
        {group.name: group.shard for group in groups},
        method,
        policy,
        process_group=replicate_group,
        **checked,
    )
    for group in groups:
        group.module.set_all_reduce_hook(_hook(aggregator, group))
    return aggregator


@dataclass(frozen=True)
class _Group:
    """Parameters whose gradients FSDP reduces at once."""

    name: str
    module: FSDPModule
    shard: torch.Tensor  # of the shape and dtype that the hook will see; holds no memory


def _hook(aggregator: Aggregator, group: _Group) -> Callable[[torch.Tensor], None]:
    def average(gradients: torch.Tensor) -> None:
        if gradients.shape != group.shard.shape:
            raise ConfigError(
                f"[fsdp] group '{group.name}' has {gradients.numel()} gradients instead of "
                f"{group.shard.numel()}: a parameter was not used; call "
                "set_reduce_scatter_unused_params(True) on the module"
            )
        aggregator.average_({group.name: gradients})

    return average


def _parameter_groups(module: FSDPModule) -> list[_Group]:
    if not (isinstance(module, FSDPModule) and isinstance(module, torch.nn.Module)):
        raise ConfigError(
            f"[fsdp] the model is a {type(module).__name__}; shard it first: "
            "torch.distributed.fsdp.fully_shard(model, mesh=...)"
        )
    groups: dict[int, _Group] = {}
    for name, part in module.named_modules():
        if not isinstance(part, FSDPModule):
            continue
        for group in sharded_groups(part):
            if group.identity in groups:  # modules that were sharded together
                continue
            _refuse_what_cannot_be(name, part, group)
            groups[group.identity] = _Group(
                f"{name or 'root'} (shard {group.shard + 1} of {group.shards})",
                part,
                torch.empty(1, dtype=group.dtype, device="cpu").expand(group.elements),
            )
    if not groups:
        raise ConfigError("[fsdp] no parameter of the model requires a gradient")
    return list(groups.values())


def _refuse_what_cannot_be(name: str, module: FSDPModule, group: ShardedGroup) -> None:
    where = f"[fsdp] module '{name}'"
    if meshes_of(module) > 1:
        raise ConfigError(f"{where} has parameters on several meshes; use one mesh for each module")
    if group.is_replicated_by_fsdp:
        raise ConfigError(
            f"{where} is replicated by FSDP itself; shard it over a 1-D mesh, such as mesh['shard']"
        )
    if group.device.type != "cpu":
        raise ConfigError(f"{where} is on {group.device}; this version compresses on the CPU only")
    if group.has_hook:
        raise ConfigError(f"{where} already has an all-reduce hook; FSDP takes one")
