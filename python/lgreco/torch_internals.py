"""What lgreco needs of PyTorch beyond its documented interface: all of it, and only here.

`python/tests/test_torch_internals.py` names the function that a new PyTorch breaks.
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    MetadataIndex,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Reducer, Store


class RowOfRanks(torch.Tensor):
    """One rank's row of a tensor that torch.distributed.checkpoint saves with a row for each rank,
    and loads whatever their number is: a rank without a row in the checkpoint keeps what it has.

    A tensor of no dimension as far as the planners' comparison of sizes goes, as those depend on
    how many ranks there were; they read and write by the offsets of what is said here.
    """

    row: torch.Tensor
    rank: int

    def __new__(cls, row: torch.Tensor, rank: int) -> RowOfRanks:
        own = torch.empty((), device="cpu").as_subclass(cls)
        own.row, own.rank = row, rank
        return own

    def __create_chunk_list__(self) -> list[ChunkStorageMetadata]:
        offsets = torch.Size([self.rank] + [0] * self.row.dim())
        return [ChunkStorageMetadata(offsets, torch.Size([1, *self.row.shape]))]

    def __create_write_items__(self, fqn: str, value: object) -> list[WriteItem]:
        (chunk,) = self.__create_chunk_list__()
        data = TensorWriteData(
            chunk=chunk,
            properties=TensorProperties.create_from_tensor(self.row),
            size=self.shape,
        )
        index = MetadataIndex(fqn, chunk.offsets)
        return [WriteItem(index=index, type=WriteItemType.SHARD, tensor_data=data)]

    def __get_tensor_shard__(self, index: MetadataIndex) -> torch.Tensor:
        return self.row.unsqueeze(0)


def timeout_of(group: dist.ProcessGroup) -> float:
    """Seconds after which the group's own operations fail."""
    members: Any = group
    on_cpu = torch.device("cpu")
    device = on_cpu if on_cpu in members._device_types else members._device_types[0]
    return float(members._get_backend(device).options._timeout.total_seconds())


def backend_of(group: dist.ProcessGroup, device_type: str) -> str | None:
    """The name of what the group's collectives of tensors there are made by; None for nothing."""
    try:
        return str(group._get_backend(torch.device(device_type)).name())
    except RuntimeError:
        return None


def group_over(
    store: Store, rank: int, size: int, gloo: dist.ProcessGroupGloo
) -> dist.ProcessGroup:
    """A process group that sends through `gloo`, and that torch.distributed does not know of."""
    group = dist.ProcessGroup(store, rank, size)
    group._set_default_backend(dist.ProcessGroup.BackendType.GLOO)
    group._register_backend(torch.device("cpu"), dist.ProcessGroup.BackendType.GLOO, gloo)
    return group


def is_supported(device: torch.device) -> bool:
    """Whether gradients may be there: on the CPU or on the accelerator that this torch has."""
    accelerator = torch.accelerator.current_accelerator()
    return device.type in ("cpu", accelerator.type if accelerator is not None else "cpu")


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


_IN_NAMES = frozenset({"_orig_mod", "_checkpoint_wrapped_module"})


def own_name(name: str) -> str:
    """A parameter's name without what torch.compile() and checkpoint_wrapper() add to it."""
    return ".".join(part for part in name.split(".") if part not in _IN_NAMES)


def is_replicated(module: nn.Module) -> bool:
    """By torch's composable replicate(), which has a DDP behind the module."""
    return isinstance(module, _composable_replicate().DDP)


def ddp_of(module: nn.Module) -> DistributedDataParallel:
    """Of a module that `is_replicated`. Collective when the module has not run yet: what its first
    forward pass would do."""
    state: Any = _composable_replicate().replicate.state(module)
    if not state.has_initialized:
        state.lazy_init()
    ddp: DistributedDataParallel = state._ddp
    return ddp


def _composable_replicate() -> Any:
    # Its package has a function of the same name, which hides it.
    return importlib.import_module("torch.distributed._composable.replicate")


@dataclass(frozen=True)
class ShardedParameter:
    """This rank's shard of one parameter, and where its gradient lies in its group's."""

    parameter: nn.Parameter  # a DTensor
    shape: torch.Size
    offset: int  # in elements
    elements_of_shards: list[int]  # how many this and the others have


@dataclass(frozen=True)
class ShardedGroup:
    """Parameters of an FSDP2 module whose gradients are reduced at once."""

    identity: int
    parameters: list[ShardedParameter]  # in the order of the reduced gradients
    elements: int  # of this rank's gradients, with padding
    dtype: torch.dtype  # in which they are reduced
    device: torch.device
    shard: int
    shards: int
    replicate_group: dist.ProcessGroup | None  # over which FSDP itself averages
    has_hook: bool


def sharded_groups(module: FSDPModule) -> list[ShardedGroup]:
    """Those of this module, without its children, that have a parameter to train."""
    described = []
    for group in _groups_of(module):
        parameters = [p for p in group.fsdp_params if p.sharded_param.requires_grad]
        if not parameters:
            continue
        mesh: Any = group.mesh_info  # its class says which attributes it has
        mixed = group.mp_policy
        is_sharded = hasattr(mesh, "shard_process_group")
        shards = mesh.shard_mesh_size if is_sharded else 1
        sizes = [p.padded_sharded_param_size.numel() for p in parameters]
        offsets = itertools.accumulate(sizes, initial=0)
        described.append(
            ShardedGroup(
                identity=id(group),
                parameters=[
                    ShardedParameter(
                        p.sharded_param, p.sharded_size, offset, _elements_of_shards(p, shards)
                    )
                    for p, offset in zip(parameters, offsets, strict=False)
                ],
                elements=sum(sizes),
                dtype=mixed.reduce_dtype or mixed.param_dtype or parameters[0].sharded_param.dtype,
                device=group.device,
                shard=mesh.shard_mesh_rank if is_sharded else 0,
                shards=shards,
                replicate_group=getattr(mesh, "replicate_process_group", None),
                has_hook=group._all_reduce_hook is not None,
            )
        )
    return described


def leave_replicas_to_the_hook(module: FSDPModule) -> None:
    """FSDP no longer averages between the replicas of this module, without its children: their
    average is what the all-reduce hook makes of the reduced gradients."""
    from torch.distributed.fsdp._fully_shard._fsdp_common import (
        DataParallelMeshInfo,
        FSDPMeshInfo,
    )

    for group in _groups_of(module):
        old = group.mesh_info
        described = {field.name: getattr(old, field.name) for field in fields(old) if field.init}
        new: Any
        if isinstance(old, FSDPMeshInfo):
            new = FSDPMeshInfo(**described | {"replicate_mesh_dim": None})
            if hasattr(old, "reduce_scatter_process_group"):  # not in torch 2.9
                new.reduce_scatter_process_group = old.reduce_scatter_process_group
        else:
            new = DataParallelMeshInfo(**described)
        if group.post_forward_mesh_info == old:
            group.post_forward_mesh_info = new
        group.mesh_info = new


def _elements_of_shards(one: Any, shards: int) -> list[int]:
    """Of a parameter, which is cut at multiples of the first shard's length."""
    size, dim = one._orig_size, one.fsdp_placement.dim
    longest = -(-size[dim] // shards)
    lengths = [max(0, min(longest, size[dim] - shard * longest)) for shard in range(shards)]
    others = math.prod(size[:dim] + size[dim + 1 :])
    return [length * others for length in lengths]


def add_reduced(
    module: FSDPModule, identity: int, reduced: torch.Tensor, replicas_of_fsdp: int = 1
) -> None:
    """Do with the reduced gradients of a group what FSDP does with them after its hook: add them to
    the parameters' gradients. `replicas_of_fsdp`: between how many it would have averaged itself,
    or added up, where it was told by what to divide."""
    from torch.distributed.fsdp._fully_shard._fsdp_collectives import _get_gradient_divide_factors

    (group,) = (g for g in _groups_of(module) if id(g) == identity)
    is_sharded = hasattr(group.mesh_info, "shard_process_group")
    if group.gradient_divide_factor is not None and replicas_of_fsdp > 1:
        reduced = reduced * replicas_of_fsdp
    _, divisor, _, _ = _get_gradient_divide_factors(
        group._reduce_scatter_process_group if is_sharded else None,
        None,
        reduced.dtype,
        group.device.type,
        group.gradient_divide_factor,
        group.force_sum_reduction_for_comms,
    )
    if divisor is not None:
        reduced = reduced / divisor
    first = 0
    for one in group.fsdp_params:
        if not one.sharded_param.requires_grad:
            continue
        gradient = reduced.as_strided(one.sharded_size, one.contiguous_sharded_stride, first)
        of_fsdp: Any = one.sharded_param.grad
        of_fsdp._local_tensor += gradient.to(group._orig_dtype)
        first += one.padded_sharded_param_size.numel()


def backward_pass() -> int:
    """A number of the backward pass that this thread is in."""
    return torch._C._current_graph_task_id()


def at_end_of_backward_pass(call: Callable[[], None]) -> None:
    """After everything that was asked for before. What `call` raises, backward() raises."""
    torch.autograd.Variable._execution_engine.queue_callback(call)


def has_gradient_hook(parameter: nn.Parameter) -> bool:
    """Something is done with the gradient as soon as it is accumulated."""
    return bool(getattr(parameter, "_post_accumulate_grad_hooks", None))


def meshes_of(module: FSDPModule) -> int:
    """Over how many meshes the parameters of this module, without its children, are sharded."""
    return len(_groups_of(module))


def _groups_of(module: FSDPModule) -> list[Any]:
    state: Any = module._get_fsdp_state()
    if hasattr(state, "_fsdp_param_groups"):
        return list(state._fsdp_param_groups)
    return [] if state._fsdp_param_group is None else [state._fsdp_param_group]  # torch 2.9
