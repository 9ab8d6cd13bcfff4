"""Per parameter name: what was applied + mean residual = sum of the true means, for 50 steps across
the bucket rebuild; and all ranks' parameters stay the same bits."""

import torch
from common import (
    METHODS,
    assert_same_on_all_ranks,
    batch,
    mean_over_ranks,
    process_group,
    small_model,
)
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco

STEPS = 50


def local_gradients(model, rank, step):
    """This rank's own gradients, from an equal model without DDP."""
    x, y = batch(rank, step)
    return torch.autograd.grad(functional.cross_entropy(model(x), y), list(model.parameters()))


def check(spelling, rank, view):
    model, twin = small_model(), small_model()
    ddp = DistributedDataParallel(model, bucket_cap_mb=0.1, gradient_as_bucket_view=view)
    compression = lgreco.compress(ddp, lgreco.method(spelling))
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.05)
    names = [name for name, _ in model.named_parameters()]
    applied = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    truth = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in model.named_parameters()}
    for step in range(STEPS):
        twin.load_state_dict(model.state_dict())
        for name, gradient in zip(names, local_gradients(twin, rank, step), strict=True):
            truth[name] += mean_over_ranks(gradient)
        optimizer.zero_grad()
        x, y = batch(rank, step)
        functional.cross_entropy(ddp(x), y).backward()
        for name, parameter in model.named_parameters():
            applied[name] += parameter.grad
        optimizer.step()
        assert_same_on_all_ranks(list(model.parameters()), f"{spelling}, step {step}")
    layers = compression.state_dict()["layers"]
    for name in names:
        residual = layers[name]["residual"]
        kept = residual if residual.numel() else torch.zeros_like(applied[name])
        left = applied[name].double() + mean_over_ranks(kept) - truth[name]
        scale = truth[name].abs().max().clamp(min=1e-3)
        assert left.abs().max() < 1e-4 * scale, f"{spelling}, {name}: {left.abs().max() / scale}"


with process_group() as (rank, size):
    for spelling in METHODS:
        for view in (False, True):
            check(spelling, rank, view)
    if rank == 0:
        print(f"telescopes on {size} ranks: {len(METHODS)} methods")
