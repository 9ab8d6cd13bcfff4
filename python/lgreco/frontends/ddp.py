"""Compressed gradient synchronisation for `DistributedDataParallel`, and for what wraps one."""

from __future__ import annotations

import functools
import warnings
import weakref
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from lgreco import _torch
from lgreco.compression import Compression
from lgreco.errors import ConfigError
from lgreco.frontends.before_pass import BeforePass
from lgreco.frontends.fsdp import compress_replicas
from lgreco.frontends.wrappers import is_alone, synchronising_part
from lgreco.methods import Level
from lgreco.policies import Policy
from lgreco.process_groups import group_of_one
from lgreco.settings import (
    DataParallelSettingsKeywords,
    Settings,
    checked_settings,
    takes_settings,
)
from lgreco.torch_internals import ddp_of, has_hook, ignored_names, own_name, reducer_of

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Reducer
    from typing_extensions import Unpack

# Not an attribute of the models, which would be copied and saved with them: a copy has a reducer of
# its own, without the hook.
_COMPRESSED: weakref.WeakSet[DistributedDataParallel] = weakref.WeakSet()


@takes_settings(DataParallelSettingsKeywords)
def compress(
    model: nn.Module,
    method: Level,
    policy: Policy | None = None,
    **settings: Unpack[DataParallelSettingsKeywords],
) -> Compression:
    """Synchronise the gradients of `model` compressed from the next backward pass on.

    Call it once, on every rank with the same arguments, after wrapping the model and before the
    first backward pass. What DDP synchronises is compressed, nothing else; copies of the model
    (`copy.deepcopy`, `torch.save`) are plain DDP. The hook runs in C++, on its own Gloo process
    group, and never blocks the autograd thread.

    The model may be a `DistributedDataParallel`, or whatever wraps one: what `torch.compile`,
    Fabric, Accelerate or a container makes of it. A module that torch's composable `replicate` was
    applied to is served, too, and one that FSDP2 replicates itself (`fully_shard` over a mesh of
    replicas and shards, a `ReplicateModule`), as by `compress_replicas(model, ...)`. A model that
    nobody wraps, in a process that trains alone, is left as it is, with a warning: nothing is
    synchronised, and what is returned never takes a step.

    Args:
        model: with float32, bfloat16 or float16 parameters, on the CPU or on accelerators. What is
            on an accelerator is copied to the host and compressed there.
        method: the reference level, such as `PowerSGD(rank=4)`, or its spelling, `"low_rank:4"`.
            Layers that it does not suit (biases, norms, small matrices) travel dense.
        policy: when and from what a plan is made; `Uniform()` keeps the reference everywhere.
        {settings}

    Raises:
        ConfigError: a model that nobody synchronises; a hook registered before, an unsupported
            dtype or device, a parameter without memory of its own, sparse gradients, a parameter to
            train that DDP does not synchronise, no process group, a setting out of range, groups
            that are no nodes of equal size.
        TypeError: a keyword that does not exist.
        MismatchError: the ranks' arguments or models differ; the same message on every rank.
        PeerError: a rank did not call it within the timeout.
    """
    part = synchronising_part(model, "compress")
    if isinstance(part, FSDPModule):
        return compress_replicas(part, method, policy, **cast(Any, settings))
    checked = checked_settings("compress()", settings, DataParallelSettingsKeywords)
    if isinstance(part, DistributedDataParallel):
        return _compress_ddp(part, part.module, part, method, policy, checked)
    if part is not None:
        return _compress_ddp(ddp_of(part), part, part, method, policy, checked)
    if not is_alone():
        raise ConfigError(
            f"[compress] the model is a {type(model).__name__}; wrap it first: "
            "ddp = torch.nn.parallel.DistributedDataParallel(model)"
        )
    return _nothing_to_synchronise(model, method, policy, checked)


def _compress_ddp(
    ddp: DistributedDataParallel,
    named: nn.Module,
    called: nn.Module,
    method: Level,
    policy: Policy | None,
    checked: Settings,
) -> Compression:
    """`named` has the parameters by their names, and `called` is what forward passes call."""
    if is_hooked(ddp):
        raise ConfigError(
            "[compress] this DDP model already has a communication hook, and DDP takes one; "
            "wrap the model anew to change it"
        )
    reducer = reducer_of(ddp)
    if reducer is None:
        raise ConfigError(
            "[compress] this DDP model does not synchronise by its reducer, which takes the hook; "
            "construct it without torch._dynamo.config.optimize_ddp='python_reducer' and without "
            "delay_all_reduce_named_params"
        )
    layers = _synchronised_parameters(ddp, named, reducer)
    compression = Compression(
        layers,
        method,
        policy,
        checked,
        process_group=ddp.process_group,
        layers_are_parameters=True,
        node=checked["node"],
        # What decides on buckets and on which layers have a gradient.
        caller_settings={
            "find_unused_parameters": ddp.find_unused_parameters,
            "static_graph": ddp.static_graph,
            "bucket_cap_mb": ddp.bucket_bytes_cap / 2**20,
        },
    )
    may_be_unused = ddp.find_unused_parameters or ddp.static_graph
    parameters = [parameter for _, parameter in layers]
    compression._engine.register_hook(reducer, parameters, may_be_unused)
    called.register_forward_pre_hook(BeforePass(compression))
    join: Any = ddp
    join.join_hook = _JoinHook(ddp, reads_scale=checked["grad_scaler"] is not None)
    _COMPRESSED.add(ddp)
    return compression


def _nothing_to_synchronise(
    model: nn.Module, method: Level, policy: Policy | None, checked: Settings
) -> Compression:
    """Of this process alone: everything can be called and saved, and no step is ever taken."""
    layers = [
        (own_name(name), parameter)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    compression = Compression(
        layers,
        method,
        policy,
        checked,
        process_group=group_of_one(),
        layers_are_parameters=True,
    )
    warnings.warn(
        "[lgreco] this process trains alone, so there is nothing to synchronise, and nothing is "
        "compressed. To train on several, start the program by torchrun and wrap the model by "
        "DistributedDataParallel.",
        RuntimeWarning,
        stacklevel=3,
    )
    return compression


def is_hooked(ddp: DistributedDataParallel) -> bool:
    """Whether a communication hook, ours or another, is registered."""
    return ddp in _COMPRESSED or has_hook(ddp)


def _synchronised_parameters(
    ddp: DistributedDataParallel, named: nn.Module, reducer: Reducer
) -> list[tuple[str, torch.nn.Parameter]]:
    """What the reducer has, in the order of the model, by the first name that is not ignored.

    Names and flags of the model say less: DDP compares ignored names in a spelling of its own, and
    looks at flags once, when it is made.
    """
    sparse = {id(parameter): flag for parameter, flag in _torch.parameters_of(reducer)}
    of_ddp = {id(parameter) for parameter in ddp.module.parameters()}
    ignored = ignored_names(ddp)
    names: dict[int, list[str]] = {}
    parameters: dict[int, torch.nn.Parameter] = {}
    for name, parameter in named.named_parameters(remove_duplicate=False):
        if id(parameter) in of_ddp:
            names.setdefault(id(parameter), []).append(name)
            parameters[id(parameter)] = parameter
    layers, forgotten = [], []
    for key, parameter in parameters.items():
        wanted = [n for n in names[key] if n not in ignored and f".{n}" not in ignored]
        name = own_name((wanted or names[key])[0])
        if key in sparse:
            if sparse[key]:
                raise ConfigError(
                    f"[compress] layer '{name}' has sparse gradients; construct it with "
                    "sparse=False, freeze it, or have DDP ignore it"
                )
            layers.append((name, parameter))
        elif parameter.requires_grad and len(wanted) == len(names[key]):
            forgotten.append(name)
    if len(layers) < len(sparse):
        raise ConfigError(
            "[compress] DDP synchronises a parameter that the model no longer has; wrap it anew"
        )
    if forgotten:
        raise ConfigError(
            f"[compress] {', '.join(map(repr, forgotten))}: requires a gradient, and DDP does not "
            "synchronise it, since it was added or unfrozen after DDP was made; wrap the model anew"
        )
    return layers


class _JoinHook:
    """`ddp.join_hook` of a compressed model, which torch's Join calls on every rank.

    Averages are over all ranks. A hook is not told how many ranks have joined, so that it cannot
    divide by those that have not. A rank that has joined runs no forward pass, before which the
    loss's scale is read.
    """

    def __init__(self, ddp: DistributedDataParallel, *, reads_scale: bool) -> None:
        self._ddp = weakref.ref(ddp)
        self._reads_scale = reads_scale

    def __call__(self, **arguments: object) -> object:
        if self._reads_scale:
            raise ConfigError(
                "[compress] Join does not go together with grad_scaler=: a rank that ran out of "
                "inputs does not read the scale; give every rank as many inputs, or leave "
                "grad_scaler= away, scale by a constant and say it with set_grad_scale()"
            )
        if not arguments.get("divide_by_initial_world_size", True):
            raise ConfigError(
                "[compress] Join(divide_by_initial_world_size=False) needs averages over the ranks "
                "that still have inputs, and compressed averages are over all ranks; leave it True"
            )
        ddp: Any = self._ddp()
        return DistributedDataParallel.join_hook(ddp, **arguments)  # type: ignore[no-untyped-call]

    def __reduce__(self) -> tuple[object, ...]:
        """A copy of the model is a plain DDP."""
        return functools.partial, (DistributedDataParallel.join_hook, self._ddp())
