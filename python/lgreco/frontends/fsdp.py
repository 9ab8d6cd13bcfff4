"""Compressed averaging between the replicas of a model sharded by FSDP2 (`fully_shard`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule

from lgreco.compression import Compression, shape_only
from lgreco.errors import ConfigError, Error
from lgreco.frontends.before_pass import BeforePass
from lgreco.frontends.wrappers import synchronising_part
from lgreco.methods import Level
from lgreco.policies import Policy
from lgreco.settings import ReplicaSettingsKeywords, checked_settings, takes_settings
from lgreco.shard_names import shard_name
from lgreco.torch_internals import (
    ShardedGroup,
    ShardedParameter,
    add_reduced,
    at_end_of_backward_pass,
    backward_pass,
    has_gradient_hook,
    is_supported,
    leave_replicas_to_the_hook,
    meshes_of,
    own_name,
    sharded_groups,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

_GRADIENT_HOOK = (
    "has a parameter with a hook on its gradient, which is not there before the backward pass has "
    "ended; step the optimizer after it"
)


@takes_settings(ReplicaSettingsKeywords)
def compress_replicas(
    module: nn.Module,
    method: Level,
    policy: Policy | None = None,
    *,
    replicate_group: dist.ProcessGroup | None = None,
    agreement_group: dist.ProcessGroup | None = None,
    **settings: Unpack[ReplicaSettingsKeywords],
) -> Compression:
    """Average gradients between the replicas of an FSDP2 model, compressed, from the next backward
    pass on.

    Either the model is sharded over a 2-D mesh of replicas and shards (or is a `ReplicateModule`):
    then FSDP leaves the averages between the replicas to this. Or it is sharded over a 1-D mesh,
    and each member of `replicate_group` holds the same shard of another replica. Replicas have
    equal parameters, which is checked here. Call it once, on every rank with the same arguments,
    after `fully_shard` and before the first pass.

    A layer is this rank's shard of one parameter, "name (shard 1 of 2)": a matrix of some of the
    parameter's rows, so that every method applies. A step is a backward pass: the gradients that
    FSDP reduces together are averaged in one exchange while the pass goes on, and at its end the
    averages are added to the gradients. All shards of all replicas commit together and share one
    plan: when a gradient is not finite anywhere, the gradients of this pass are NaN on every rank,
    and nothing is kept of it. FSDP's `set_requires_all_reduce` has no effect any more: passes that
    accumulate are averaged one by one, or under `set_requires_gradient_sync(False)` not at all.

    Args:
        module: made by `fully_shard` (or wrapped since), on the CPU or on an accelerator.
        method: the reference level, or its spelling, as in `compress()`.
        policy: as in `compress()`; its steps, and `start`, are backward passes.
        replicate_group: the ranks with this rank's shard; its own Gloo groups are made from it.
            None: those of the model's mesh.
        agreement_group: the ranks with any shard of any replica (None: all there are).
        {settings}

    Raises:
        ConfigError: not an FSDP module, a 1-D mesh without `replicate_group` or a 2-D mesh with it,
            a hook registered before, an unsupported device, no parameter that requires a
            gradient, one with a hook that wants its gradient before the pass ends, a setting out of
            range. At the end of the backward pass, on all ranks: on some rank a parameter of a
            group had no gradient, or got such a hook since. In the backward pass: another one runs
            inside of it (`torch.utils.checkpoint` with `use_reentrant=True`).
        MismatchError: as `compress()`, and when replicas differ in a parameter.
        PeerError: as `compress()`.
    """
    checked = checked_settings("compress_replicas()", settings, ReplicaSettingsKeywords)
    root = synchronising_part(module, "fsdp")
    if not isinstance(root, FSDPModule):
        raise ConfigError(
            f"[fsdp] the model is a {type(module).__name__}; shard it first: "
            "torch.distributed.fsdp.fully_shard(model, mesh=...)"
        )
    groups = _parameter_groups(root)
    replicas_of_fsdp = _replicas_of_fsdp(groups, replicate_group)
    aggregator = ReplicaCompression(
        [
            (layer.name, shape_only(layer.shape, group.dtype))
            for group in groups
            for layer in group.layers
        ],
        method,
        policy,
        checked,
        process_group=replicate_group or groups[0].replicate_group,
        layers_are_parameters=False,
        agreement_group=dist.group.WORLD if agreement_group is None else agreement_group,
        layers_elsewhere={
            name: size
            for group in groups
            for layer in group.layers
            for name, size in layer.elsewhere.items()
        },
        equal_parameters=[
            (layer.parameter_name, layer.parameter.to_local())
            for group in groups
            for layer in group.layers
        ],
    )
    aggregator.replicas_of_fsdp = replicas_of_fsdp
    for group in groups:
        if replicas_of_fsdp > 1:
            leave_replicas_to_the_hook(group.module)
        group.module.set_all_reduce_hook(aggregator.hook(group))
    as_module: Any = root  # which is an nn.Module, too
    as_module.register_forward_pre_hook(BeforePass(aggregator))
    return aggregator


@dataclass(frozen=True)
class _Layer:
    """This rank's shard of a parameter."""

    name: str
    parameter_name: str
    parameter: Any  # a DTensor
    shape: torch.Size
    offset: int  # in the gradients of its group
    elsewhere: dict[str, int]  # the other shards, and the bytes of their gradients


@dataclass(frozen=True)
class _Group:
    """Parameters whose gradients FSDP reduces at once: with padding, and one after the other."""

    name: str
    identity: int
    module: FSDPModule
    layers: list[_Layer]
    elements: int
    dtype: torch.dtype
    replicate_group: dist.ProcessGroup | None  # over which FSDP averages itself

    def has_gradient_hook(self) -> bool:
        return any(has_gradient_hook(layer.parameter) for layer in self.layers)


@dataclass(frozen=True)
class _Pass:
    """A backward pass whose step is open."""

    number: int
    problems: list[str] = field(default_factory=list)  # why it cannot be averaged
    averages: dict[int, tuple[_Group, torch.Tensor]] = field(default_factory=dict)  # by identity


class ReplicaCompression(Compression):
    """A step is a backward pass, whichever groups it reaches.

    FSDP adds what its hook leaves to the gradients. It gets zeros, and the averages are added once
    the pass has ended.
    """

    replicas_of_fsdp: int = 1  # between which FSDP averaged before it was left to this
    _pass: _Pass | None = None

    def hook(self, group: _Group) -> Callable[[torch.Tensor], None]:
        """What FSDP is to call with the group's gradients."""

        def begin(gradients: torch.Tensor) -> None:
            if self._pass is not None and self._pass.number != backward_pass():
                self._end(
                    "[fsdp] a backward pass began before another one had ended: use "
                    "torch.utils.checkpoint with use_reentrant=False, or, when an exception ended "
                    "the other, a forward pass of the whole model before the next"
                )
            if self._pass is not None and group.identity in self._pass.averages:
                self._finish()  # its gradients are reduced in parts
            self._begin(group, gradients)

        return begin

    def _before_pass(self) -> None:
        # A forward pass of training outside of any backward pass: an open one was ended by an
        # exception, which the caller has got. The other ranks get a ConfigError.
        if self._pass is not None and backward_pass() < 0:
            with contextlib.suppress(Error):
                self._end("[fsdp] the backward pass ended in an exception")
        # Within a backward pass: a checkpoint that computes again. The step stays as it began.
        if self._pass is None:
            super()._before_pass()

    def _begin(self, group: _Group, gradients: torch.Tensor) -> None:
        problem = _problem_with(group, gradients)
        if self._pass is None:
            self._before_pass()  # again: the forward pass need not have been that of the root
            at_end_of_backward_pass(self._finish)
            self._pass = _Pass(backward_pass())
        # With a problem, too, all ranks exchange the same layers, and so get the same error.
        if problem:
            self._pass.problems.append(problem)
            averages = torch.zeros(group.elements, dtype=group.dtype, device=gradients.device)
        else:
            averages = gradients.clone()
        gradients.zero_()
        self._pass.averages[group.identity] = (group, averages)
        self._engine.submit(averages, [(layer.name, layer.offset) for layer in group.layers])

    def _finish(self) -> None:
        if self._pass is None:
            return
        for group, averages in self._end("; ".join(self._pass.problems)).values():
            add_reduced(group.module, group.identity, averages, self.replicas_of_fsdp)

    def _end(self, problem: str) -> dict[int, tuple[_Group, torch.Tensor]]:
        """What was averaged. Raises the step's failure, also of a `problem`."""
        assert self._pass is not None
        averages = self._pass.averages
        self._pass = None
        self._engine.finish_step(problem)
        return averages


def _problem_with(group: _Group, gradients: torch.Tensor) -> str:
    """Why these cannot be averaged, if so: the other ranks must be told, too."""
    if (gradients.shape, gradients.dtype) != ((group.elements,), group.dtype):
        return (
            f"[fsdp] group '{group.name}' has {gradients.numel()} gradients of {gradients.dtype} "
            f"instead of {group.elements} of {group.dtype}: a parameter was not used "
            "(call set_reduce_scatter_unused_params(True) on the module), or changed its type"
        )
    if group.has_gradient_hook():
        return f"[fsdp] group '{group.name}' {_GRADIENT_HOOK}"
    return ""


def _parameter_groups(root: FSDPModule) -> list[_Group]:
    as_module: Any = root
    names = {id(p): own_name(name) for name, p in as_module.named_parameters()}
    groups: dict[int, _Group] = {}
    for name, part in as_module.named_modules():
        if not isinstance(part, FSDPModule):
            continue
        for group in sharded_groups(part):
            if group.identity in groups:  # modules that were sharded together
                continue
            _refuse_what_cannot_be(name, part, group)
            groups[group.identity] = _Group(
                name=own_name(name) or "root",
                identity=group.identity,
                module=part,
                layers=[_layer_of(one, group, names) for one in group.parameters],
                elements=group.elements,
                dtype=group.dtype,
                replicate_group=group.replicate_group,
            )
    if not groups:
        raise ConfigError("[fsdp] no parameter of the model requires a gradient")
    return list(groups.values())


def _layer_of(one: ShardedParameter, group: ShardedGroup, names: dict[int, str]) -> _Layer:
    parameter: Any = one.parameter
    name = names.get(id(parameter))
    if name is None:
        raise ConfigError(
            "[fsdp] the model's parameters are not sharded now; compress it before its first "
            "forward pass, or call reshard() on its modules"
        )
    of_shards = {
        shard_name(name, shard, group.shards): elements * group.dtype.itemsize
        for shard, elements in enumerate(one.elements_of_shards)
    }
    own = shard_name(name, group.shard, group.shards)
    del of_shards[own]
    return _Layer(own, name, parameter, one.shape, one.offset, of_shards)


def _replicas_of_fsdp(groups: list[_Group], replicate_group: dist.ProcessGroup | None) -> int:
    """Between how many replicas FSDP averages; 1 when it leaves that to others."""
    of_fsdp = [group.replicate_group for group in groups]
    if all(one is None for one in of_fsdp):
        if replicate_group is None:
            raise ConfigError(
                "[fsdp] the model is sharded over all ranks of a 1-D mesh, between which nothing "
                "is compressed; shard it over a 2-D mesh of replicas and shards, or pass the ranks "
                "with this rank's shard: lgreco.compress_replicas(model, ..., replicate_group=...)"
            )
        return 1
    if replicate_group is not None:
        raise ConfigError(
            "[fsdp] the model is replicated by FSDP itself, over its mesh; leave replicate_group "
            "away, or shard the model over a 1-D mesh, such as mesh['shard']"
        )
    ranks = [None if one is None else dist.get_process_group_ranks(one) for one in of_fsdp]
    first = of_fsdp[0]
    if first is None or any(one != ranks[0] for one in ranks):
        raise ConfigError(
            "[fsdp] modules of the model have different replicas; shard all of them over one mesh"
        )
    return first.size()


def _refuse_what_cannot_be(name: str, module: FSDPModule, group: ShardedGroup) -> None:
    where = f"[fsdp] module '{name}'"
    if meshes_of(module) > 1:
        raise ConfigError(f"{where} has parameters on several meshes; use one mesh for each module")
    if not is_supported(group.device):
        raise ConfigError(
            f"{where} is on {group.device}; move the model to the CPU or to an accelerator"
        )
    if any(has_gradient_hook(one.parameter) for one in group.parameters):
        raise ConfigError(f"{where} {_GRADIENT_HOOK}")
    if group.has_hook:
        raise ConfigError(f"{where} already has an all-reduce hook; FSDP takes one")
