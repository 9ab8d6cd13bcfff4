"""Compressed gradient synchronisation for `DistributedDataParallel`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.parallel import DistributedDataParallel

from lgreco.compression import Compression
from lgreco.errors import ConfigError
from lgreco.methods import Method
from lgreco.policies import Policy
from lgreco.settings import SettingsKeywords, checked_settings, takes_settings

if TYPE_CHECKING:
    from typing_extensions import Unpack


@takes_settings(SettingsKeywords)
def compress(
    ddp: DistributedDataParallel,
    method: Method,
    policy: Policy | None = None,
    **settings: Unpack[SettingsKeywords],
) -> Compression:
    """Synchronise the gradients of `ddp` compressed from the next backward pass on.

    Call it once, on every rank with the same arguments, after wrapping the model and before the
    first backward pass. The hook runs in C++, on its own Gloo process group, and never blocks the
    autograd thread.

    Args:
        ddp: a model on the CPU with float32, bfloat16 or float16 parameters.
        method: the reference level, such as `PowerSGD(rank=4)`. Layers that it does not suit
            (biases, norms, small matrices) travel dense.
        policy: when and from what a plan is made; `Uniform()` keeps the reference everywhere.
        {settings}

    Raises:
        ConfigError: not a DDP model, a hook registered before, an unsupported dtype or device,
            sparse gradients, no process group, a setting out of range.
        MismatchError: the ranks' arguments or models differ; the same message on every rank.
        PeerError: a rank did not call it within the timeout.
    """
    checked = checked_settings("compress()", settings)
    layers = _synchronised_parameters(ddp)
    _refuse_second_hook(ddp)
    _refuse_sparse_gradients(ddp)
    compression = Compression(
        layers,
        method,
        policy,
        checked,
        process_group=ddp.process_group,
        layers_are_parameters=True,
    )
    may_be_unused = ddp.find_unused_parameters or ddp.static_graph
    parameters = [parameter for _, parameter in layers]
    compression._engine.register_hook(ddp.reducer, parameters, may_be_unused)
    ddp._comm_hooks.append((compress, compression))
    return compression


def _synchronised_parameters(
    ddp: DistributedDataParallel,
) -> list[tuple[str, torch.nn.Parameter]]:
    if not isinstance(ddp, DistributedDataParallel):
        raise ConfigError(
            f"[compress] the model is a {type(ddp).__name__}; wrap it first: "
            "ddp = torch.nn.parallel.DistributedDataParallel(model)"
        )
    return [
        (name, parameter)
        for name, parameter in ddp.module.named_parameters()
        if parameter.requires_grad and name not in ddp.parameters_to_ignore
    ]


def _refuse_second_hook(ddp: DistributedDataParallel) -> None:
    if ddp._comm_hooks:
        raise ConfigError(
            "[compress] this DDP model already has a communication hook, and DDP takes one; "
            "wrap the model anew to change it"
        )


def _refuse_sparse_gradients(ddp: DistributedDataParallel) -> None:
    for name, module in ddp.module.named_modules():
        if isinstance(module, (torch.nn.Embedding, torch.nn.EmbeddingBag)) and module.sparse:
            raise ConfigError(
                f"[compress] layer '{name}' has sparse gradients; construct it with sparse=False"
            )
