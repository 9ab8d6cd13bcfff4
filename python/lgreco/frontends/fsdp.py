"""Compressed averaging between the replicas of a model sharded by FSDP2 (`fully_shard`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule

from lgreco.compression import Compression
from lgreco.errors import ConfigError
from lgreco.methods import Method
from lgreco.policies import Policy
from lgreco.settings import ReplicaSettingsKeywords, checked_settings, takes_settings
from lgreco.torch_internals import (
    ShardedGroup,
    add_reduced,
    at_end_of_backward_pass,
    backward_pass,
    has_gradient_hook,
    meshes_of,
    sharded_groups,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack


@takes_settings(ReplicaSettingsKeywords)
def compress_replicas(
    module: FSDPModule,
    method: Method,
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
        module: made by `fully_shard`, on the CPU.
        method: the reference level: `Quantize`, `TopK`, `Cast` or `Dense`.
        policy: as in `compress()`; its steps, and `start`, are backward passes.
        replicate_group: the ranks with this rank's shard; its own Gloo groups are made from it.
        agreement_group: the ranks with any shard of any replica (None: all there are).
        {settings}

    Raises:
        ConfigError: not an FSDP module, one sharded over a 2-D mesh (FSDP averages those itself), a
            hook registered before, another device than the CPU, no parameter that requires a
            gradient, a setting out of range. In the backward pass: a parameter of a group had no
            gradient, or has a hook that wants its gradient before the pass ends.
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
    """A backward pass whose step is open: what is being averaged, by name."""

    number: int
    averages: dict[str, tuple[_Group, torch.Tensor]] = field(default_factory=dict)


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
                # An exception ended it, here and on the other ranks.
                with contextlib.suppress(ConfigError):
                    self._end("[fsdp] the backward pass ended in an exception")
            elif self._pass is not None and group.name in self._pass.averages:
                self._finish()  # its gradients are reduced in parts
            try:
                self._begin(group, gradients)
            except ConfigError as error:
                if self._pass is not None:  # what was begun is lost
                    self._end(str(error))
                raise

        return begin

    def _begin(self, group: _Group, gradients: torch.Tensor) -> None:
        _refuse_gradients(group, gradients)
        if self._pass is None:
            self._before_pass()
            at_end_of_backward_pass(self._finish)
            self._pass = _Pass(backward_pass())
        averages = gradients.clone()
        gradients.zero_()
        self._pass.averages[group.name] = (group, averages)
        self._engine.submit(group.name, averages)

    def _finish(self) -> None:
        if self._pass is None:
            return
        for group, averages in self._end("").values():
            add_reduced(group.module, group.identity, averages)

    def _end(self, problem: str) -> dict[str, tuple[_Group, torch.Tensor]]:
        """What was averaged. Raises the step's failure, also of a `problem`."""
        assert self._pass is not None
        averages = self._pass.averages
        self._pass = None
        self._engine.finish_step(problem)
        return averages


def _refuse_gradients(group: _Group, gradients: torch.Tensor) -> None:
    if gradients.shape != group.shard.shape:
        raise ConfigError(
            f"[fsdp] group '{group.name}' has {gradients.numel()} gradients instead of "
            f"{group.shard.numel()}: a parameter was not used; call "
            "set_reduce_scatter_unused_params(True) on the module"
        )
    if any(has_gradient_hook(parameter) for parameter in group.parameters):
        raise ConfigError(
            f"[fsdp] group '{group.name}' has a parameter with a hook on its gradient, which is "
            "not there before the backward pass has ended; step the optimizer after it"
        )


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
    if group.device.type != "cpu":
        raise ConfigError(f"{where} is on {group.device}; this version compresses on the CPU only")
    if group.has_hook:
        raise ConfigError(f"{where} already has an all-reduce hook; FSDP takes one")
