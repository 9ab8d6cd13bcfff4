"""What lgreco needs of PyTorch beyond its documented interface: all of it, and only here.

`python/tests/test_torch_internals.py` names the function that a new PyTorch breaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Reducer, Store


def timeout_of(group: dist.ProcessGroup | None) -> float:
    """Seconds after which the group's own operations fail; of the default group for None."""
    members: Any = dist.group.WORLD if group is None else group
    on_cpu = torch.device("cpu")
    device = on_cpu if on_cpu in members._device_types else members._device_types[0]
    return float(members._get_backend(device).options._timeout.total_seconds())


def group_over(
    store: Store, rank: int, size: int, gloo: dist.ProcessGroupGloo
) -> dist.ProcessGroup:
    """A process group that sends through `gloo`, and that torch.distributed does not know of."""
    group = dist.ProcessGroup(store, rank, size)
    group._set_default_backend(dist.ProcessGroup.BackendType.GLOO)
    group._register_backend(torch.device("cpu"), dist.ProcessGroup.BackendType.GLOO, gloo)
    return group


def reducer_of(ddp: DistributedDataParallel) -> Reducer | None:
    """What synchronises the gradients; None when something else does."""
    if ddp._use_python_reducer or ddp._delay_all_reduce_all_params:
        return None
    return ddp.reducer


def has_hook(ddp: DistributedDataParallel) -> bool:
    return bool(ddp._comm_hooks)


def ignored_names(ddp: DistributedDataParallel) -> set[str]:
    """Of parameters and buffers that the user keeps out of the synchronisation."""
    return set(ddp.parameters_to_ignore)


def is_compiled(model: object) -> bool:
    """By torch.compile()."""
    return isinstance(model, torch._dynamo.OptimizedModule)


@dataclass(frozen=True)
class ShardedGroup:
    """Parameters of an FSDP2 module whose gradients are reduced at once."""

    identity: int
    elements: int  # of this rank's gradients, with padding
    dtype: torch.dtype  # in which they are reduced
    device: torch.device
    shard: int
    shards: int
    is_replicated_by_fsdp: bool
    has_hook: bool


def sharded_groups(module: FSDPModule) -> list[ShardedGroup]:
    """Those of this module, without its children, that have a parameter to train."""
    described = []
    for group in module._get_fsdp_state()._fsdp_param_groups:
        parameters = [p for p in group.fsdp_params if p.sharded_param.requires_grad]
        if not parameters:
            continue
        mesh: Any = group.mesh_info  # its class says which attributes it has
        mixed = group.mp_policy
        is_sharded = mesh.shard_mesh_dim is not None
        described.append(
            ShardedGroup(
                identity=id(group),
                elements=sum(p.padded_sharded_param_size.numel() for p in parameters),
                dtype=mixed.reduce_dtype or mixed.param_dtype or parameters[0].sharded_param.dtype,
                device=group.device,
                shard=mesh.shard_mesh_rank if is_sharded else 0,
                shards=mesh.shard_mesh_size if is_sharded else 1,
                is_replicated_by_fsdp=mesh.replicate_mesh_dim is not None or not is_sharded,
                has_hook=group._all_reduce_hook is not None,
            )
        )
    return described


def meshes_of(module: FSDPModule) -> int:
    """Over how many meshes the parameters of this module, without its children, are sharded."""
    return len(module._get_fsdp_state()._fsdp_param_groups)
