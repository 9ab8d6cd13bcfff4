"""Compressed gradient synchronisation for `DistributedDataParallel`."""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parallel import DistributedDataParallel

from lgreco import _torch
from lgreco.compression import Compression
from lgreco.errors import ConfigError
from lgreco.frontends.before_pass import BeforePass
from lgreco.methods import Level
from lgreco.policies import Policy
from lgreco.settings import DataParallelSettingsKeywords, checked_settings, takes_settings
from lgreco.torch_internals import has_hook, ignored_names, is_compiled, reducer_of

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Reducer
    from typing_extensions import Unpack

# Not an attribute of the models, which would be copied and saved with them: a copy has a reducer of
# its own, without the hook.
_COMPRESSED: weakref.WeakSet[DistributedDataParallel] = weakref.WeakSet()


@takes_settings(DataParallelSettingsKeywords)
def compress(
    ddp: DistributedDataParallel,
    method: Level,
    policy: Policy | None = None,
    **settings: Unpack[DataParallelSettingsKeywords],
) -> Compression:
    """Synchronise the gradients of `ddp` compressed from the next backward pass on.

    Call it once, on every rank with the same arguments, after wrapping the model and before the
    first backward pass and torch.compile. What DDP synchronises is compressed, nothing else; copies
    of the model (`copy.deepcopy`, `torch.save`) are plain DDP. The hook runs in C++, on its own
    Gloo process group, and never blocks the autograd thread.

    Args:
        ddp: a model with float32, bfloat16 or float16 parameters, on the CPU or on accelerators.
            What is on an accelerator is copied to the host and compressed there.
        method: the reference level, such as `PowerSGD(rank=4)`. Layers that it does not suit
            (biases, norms, small matrices) travel dense.
        policy: when and from what a plan is made; `Uniform()` keeps the reference everywhere.
        {settings}

    Raises:
        ConfigError: not a DDP model, or one that was compiled; a hook registered before, an
            unsupported dtype or device, a parameter without memory of its own, sparse gradients, a
            parameter to train that DDP does not synchronise, no process group, a setting out of
            range, groups that are no nodes of equal size.
        TypeError: a keyword that does not exist.
        MismatchError: the ranks' arguments or models differ; the same message on every rank.
        PeerError: a rank did not call it within the timeout.
    """
    checked = checked_settings("compress()", settings, DataParallelSettingsKeywords)
    _refuse_what_is_no_ddp(ddp)
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
    layers = _synchronised_parameters(ddp, reducer)
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
    ddp.register_forward_pre_hook(BeforePass(compression))
    join: Any = ddp
    join.join_hook = _JoinHook(ddp, reads_scale=checked["grad_scaler"] is not None)
    _COMPRESSED.add(ddp)
    return compression


def is_hooked(ddp: DistributedDataParallel) -> bool:
    """Whether a communication hook, ours or another, is registered."""
    return ddp in _COMPRESSED or has_hook(ddp)


def _refuse_what_is_no_ddp(model: object) -> None:
    if is_compiled(model):
        raise ConfigError(
            "[compress] the model was compiled; compress it before torch.compile: "
            "lgreco.compress(ddp, ...), then torch.compile(ddp)"
        )
    if not isinstance(model, DistributedDataParallel):
        raise ConfigError(
            f"[compress] the model is a {type(model).__name__}; wrap it first: "
            "ddp = torch.nn.parallel.DistributedDataParallel(model)"
        )


def _synchronised_parameters(
    ddp: DistributedDataParallel, reducer: Reducer
) -> list[tuple[str, torch.nn.Parameter]]:
    """What the reducer has, in the order of the model, by the first name that is not ignored.

    Names and flags of the model say less: DDP compares ignored names in a spelling of its own, and
    looks at flags once, when it is made.
    """
    sparse = {id(parameter): flag for parameter, flag in _torch.parameters_of(reducer)}
    ignored = ignored_names(ddp)
    names: dict[int, list[str]] = {}
    parameters: dict[int, torch.nn.Parameter] = {}
    for name, parameter in ddp.module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
        parameters[id(parameter)] = parameter
    layers, forgotten = [], []
    for key, parameter in parameters.items():
        wanted = [n for n in names[key] if n not in ignored and f".{n}" not in ignored]
        name = (wanted or names[key])[0]
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
