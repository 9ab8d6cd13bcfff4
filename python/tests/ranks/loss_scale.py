"""Training with a loss scale that overflows and changes is the same run as without one."""

import torch
from common import METHODS, assert_same_on_all_ranks, batch, process_group, small_model
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco

STEPS = 12


def train(spelling, rank, scaled):
    """Parameters after STEPS steps; with `scaled` the scale doubles, and one step in four overflows
    on one rank, which costs that attempt and halves the scale, as GradScaler does it."""
    ddp = DistributedDataParallel(small_model(), bucket_cap_mb=0.1)
    compression = lgreco.compress(ddp, lgreco.method(spelling))
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.05)
    scale, step, attempt = 1.0, 0, 0
    compression.set_grad_scale(scale)
    while step < STEPS:
        attempt += 1
        optimizer.zero_grad()
        x, y = batch(rank, step)
        loss = functional.cross_entropy(ddp(x), y) * scale
        if scaled and attempt % 4 == 3 and rank == 1:
            loss = loss * float("inf")
        loss.backward()
        if not all(bool(torch.isfinite(p.grad).all()) for p in ddp.parameters()):
            scale /= 2
            compression.set_grad_scale(scale)
            continue
        for parameter in ddp.parameters():
            parameter.grad /= scale
        optimizer.step()
        step += 1
        if scaled:
            scale *= 2
            compression.set_grad_scale(scale)
    if scaled:
        assert compression.stats()["overflow_steps"] == attempt - STEPS > 0
    return [p.detach() for p in ddp.parameters()]


with process_group() as (rank, size):
    for spelling in METHODS:
        plain, scaled = (train(spelling, rank, scaled) for scaled in (False, True))
        assert_same_on_all_ranks(scaled, spelling)
        for a, b in zip(plain, scaled, strict=True):
            assert torch.equal(a, b), spelling
    if rank == 0:
        print("scaled runs are the same runs")
