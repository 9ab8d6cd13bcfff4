"""Compressed gradient synchronisation for `DistributedDataParallel`."""

from __future__ import annotations

import torch
from torch.nn.parallel import DistributedDataParallel

from lgreco.aggregator import Compression, Settings
from lgreco.errors import ConfigError
from lgreco.methods import Method
from lgreco.policies import Policy


def compress(
    ddp: DistributedDataParallel,
    method: Method,
    policy: Policy | None = None,
    *,
    error_feedback: bool = True,
    seed: int = 0,
    start: int = 0,
    timeout: float | None = None,
    residual: str = "fp32",
    drift_check_every: int = 100,
    lanes: int = 2,
    threads: int | None = None,
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
        error_feedback: keep what was not sent and add it to the next gradient.
        seed: of all random numbers; the same on every rank.
        start: steps before this one travel dense.
        timeout: seconds that a step may take, from its first bucket to its end, before it fails
            with PeerError (None: 1800).
        residual: how error feedback is kept: "fp32", or "bf16" for half the memory.
        drift_check_every: steps between comparisons of the ranks' parameters; 0 for never.
        lanes: 2 overlaps the rounds of consecutive buckets; 1 saves a process group.
        threads: that encode and decode (None: this rank's share of the cores, at most 4).

    Raises:
        ConfigError: not a DDP model, a hook registered before, an unsupported dtype or device,
            sparse gradients, no process group, a setting out of range.
        MismatchError: the ranks' arguments or models differ; the same message on every rank.
        PeerError: a rank did not call it within the timeout.
    """
    settings = Settings(
        error_feedback=error_feedback,
        residual=residual,
        seed=seed,
        start=start,
        timeout=timeout,
        drift_check_every=drift_check_every,
        lanes=lanes,
        threads=threads,
    )
    layers = _synchronised_parameters(ddp)
    _refuse_second_hook(ddp)
    _refuse_sparse_gradients(ddp)
    compression = Compression(
        layers,
        method,
        policy,
        settings,
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
