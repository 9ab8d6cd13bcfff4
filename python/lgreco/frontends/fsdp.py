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

from lgreco.compression import Compression
from lgreco.errors import ConfigError, Error
from lgreco.frontends.before_pass import BeforePass
from lgreco.methods import Level
from lgreco.policies import Policy
from lgreco.settings import ReplicaSettingsKeywords, checked_settings, takes_settings
from lgreco.torch_internals import (
    ShardedGroup,
    add_reduced,
    at_end_of_backward_pass,
    backward_pass,
    has_gradient_hook,
    is_supported,
    meshes_of,
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
    module: FSDPModule,
    method: Level,
    policy: Policy | None = None,
    *,
    replicate_group: dist.ProcessGroup,
    agreement_group: dist.ProcessGroup | None = None,
    **settings: Unpack[ReplicaSettingsKeywords],
) -> Compression:
    """Average gradient shards over `replicate_group`, compressed, from the next backward pass on.

    The model is sharded over a 1-D mesh, and each member of `replicate_group` holds the same shard
    of another replica, with equal parameters. Call it once, on every rank with the same arguments,
    after `fully_shard` and before the first backward pass.

    FSDP hands over one flat vector for each of its parameter groups. So a layer here is a group,
    named "module (shard 1 of 2)", and low rank does not apply: it needs matrices. A step is a
    backward pass: its groups are averaged while the pass goes on, and at its end the averages are
    added to the gradients. All shards of all replicas commit together and share one plan: when a
    gradient is not finite anywhere, the gradients of this pass are NaN on every rank, and nothing
    is kept of it.

    Args:
        module: made by `fully_shard`, on the CPU or on an accelerator.
        method: the reference level: `Quantize`, `TopK`, `Cast` or `Dense`.
        policy: as in `compress()`; its steps, and `start`, are backward passes.
        replicate_group: the ranks with this rank's shard; its own Gloo groups are made from it.
        agreement_group: the ranks with any shard of any replica (None: all there are).
        {settings}

    Raises:
        ConfigError: not an FSDP module, one sharded over a 2-D mesh (FSDP averages those itself), a
            hook registered before, an unsupported device, no parameter that requires a
            gradient, one with a hook that wants its gradient before the pass ends, a setting out of
            range. At the end of the backward pass, on all ranks: on some rank a parameter of a
            group had no gradient, or got such a hook since. In the backward pass: another one runs
            inside of it (`torch.utils.checkpoint` with `use_reentrant=True`).
        MismatchError, PeerError: as `compress()`.
    """
    checked = checked_settings("compress_replicas()", settings, ReplicaSettingsKeywords)
    groups = _parameter_groups(module)
    aggregator = ReplicaCompression(
        [(group.name, group.shard) for group in groups],
        method,
        policy,
        checked,
        process_group=replicate_group,
        layers_are_parameters=False,
        agreement_group=dist.group.WORLD if agreement_group is None else agreement_group,
        layers_elsewhere=[name for group in groups for name in group.names_elsewhere],
    )
    for group in groups:
        group.module.set_all_reduce_hook(aggregator.hook(group))
    root: Any = module  # which is an nn.Module, too
    root.register_forward_pre_hook(BeforePass(aggregator))
    return aggregator


@dataclass(frozen=True)
class _Group:
    """Parameters whose gradients FSDP reduces at once."""

    name: str
    names_elsewhere: tuple[str, ...]  # of its other shards
    identity: int
    module: FSDPModule
    parameters: list[nn.Parameter]
    shard: torch.Tensor  # of the shape and dtype that the hook will see; holds no memory


@dataclass(frozen=True)
class _Pass:
    """A backward pass whose step is open."""

    number: int
    problems: list[str] = field(default_factory=list)  # why it cannot be averaged
    averages: dict[str, tuple[_Group, torch.Tensor]] = field(default_factory=dict)  # by name


class ReplicaCompression(Compression):
    """A step is a backward pass, whichever groups it reaches.

    FSDP adds what its hook leaves to the gradients. It gets zeros, and the averages are added once
    the pass has ended.
    """

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
            if self._pass is not None and group.name in self._pass.averages:
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
            averages = torch.zeros(
                group.shard.shape, dtype=group.shard.dtype, device=gradients.device
            )
        else:
            averages = gradients.clone()
        gradients.zero_()
        self._pass.averages[group.name] = (group, averages)
        self._engine.submit(group.name, averages)

    def _finish(self) -> None:
        if self._pass is None:
            return
        for group, averages in self._end("; ".join(self._pass.problems)).values():
            add_reduced(group.module, group.identity, averages)

    def _end(self, problem: str) -> dict[str, tuple[_Group, torch.Tensor]]:
        """What was averaged. Raises the step's failure, also of a `problem`."""
        assert self._pass is not None
        averages = self._pass.averages
        self._pass = None
        self._engine.finish_step(problem)
        return averages


def _problem_with(group: _Group, gradients: torch.Tensor) -> str:
    """Why these cannot be averaged, if so: the other ranks must be told, too."""
    if (gradients.shape, gradients.dtype) != (group.shard.shape, group.shard.dtype):
        return (
            f"[fsdp] group '{group.name}' has {gradients.numel()} gradients of {gradients.dtype} "
            f"instead of {group.shard.numel()} of {group.shard.dtype}: a parameter was not used "
            "(call set_reduce_scatter_unused_params(True) on the module), or changed its type"
        )
    if any(has_gradient_hook(parameter) for parameter in group.parameters):
        return f"[fsdp] group '{group.name}' {_GRADIENT_HOOK}"
    return ""


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
            names = [
                f"{name or 'root'} (shard {shard + 1} of {group.shards})"
                for shard in range(group.shards)
            ]
            groups[group.identity] = _Group(
                name=names.pop(group.shard),
                names_elsewhere=tuple(names),
                identity=group.identity,
                module=part,
                parameters=group.parameters,
                shard=torch.empty(1, dtype=group.dtype, device="cpu").expand(group.elements),
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
    if not is_supported(group.device):
        raise ConfigError(
            f"{where} is on {group.device}; move the model to the CPU or to an accelerator"
        )
    if any(has_gradient_hook(parameter) for parameter in group.parameters):
        raise ConfigError(f"{where} {_GRADIENT_HOOK}")
    if group.has_hook:
        raise ConfigError(f"{where} already has an all-reduce hook; FSDP takes one")
