"""PyTorch's GradScaler with its defaults, as `grad_scaler=` and by set_grad_scale(): 200 steps, 11
overflows. The run is bit for bit the one without a scale, and as good as plain DDP."""

import torch
from common import METHODS, assert_same_on_all_ranks, process_group
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco

STEPS, OVERFLOWS = 200, 11


def batch(seed: int, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(size, 256, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, :16].sum(1) > 0).long()


def train(spelling: str | None, scaling: str, rank: int) -> tuple[list[torch.Tensor], float]:
    """Parameters, and the loss on unseen data. `scaling`: "none", "given" or "called"."""
    torch.manual_seed(0)
    ddp = DistributedDataParallel(
        nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 2)), bucket_cap_mb=0.1
    )
    scaler = torch.amp.GradScaler("cpu", enabled=scaling != "none")
    if spelling is not None:
        compression = lgreco.compress(
            ddp, lgreco.method(spelling), grad_scaler=scaler if scaling == "given" else None
        )
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.1)
    for step in range(STEPS + OVERFLOWS):
        overflows = step % 19 == 7  # 11 times, on one rank
        x, y = batch(1000 * step + rank)
        optimizer.zero_grad()
        loss = functional.cross_entropy(ddp(x), y)
        if overflows and rank == 1:
            loss = loss * float("inf")
        scaler.scale(loss).backward()
        if scaling != "none":
            scaler.step(optimizer)
            scaler.update()
        elif not overflows:
            optimizer.step()
        if spelling is not None and scaling == "called":
            compression.set_grad_scale(scaler.get_scale())
    if spelling is not None:
        stats = compression.stats()
        assert (stats["steps"], stats["overflow_steps"]) == (STEPS, OVERFLOWS), stats
        assert stats["dropped_residuals"] == 0
        compression.load_state_dict(compression.state_dict())
    parameters = [p.detach() for p in ddp.parameters()]
    assert_same_on_all_ranks(parameters, f"{spelling} {scaling}")
    with torch.no_grad():
        x, y = batch(10_000, size=4096)
        return parameters, functional.cross_entropy(ddp.module(x), y).item()


with process_group() as (rank, _):
    dense = train(None, "given", rank)[1]
    for spelling in METHODS:
        plain, loss = train(spelling, "none", rank)
        for scaling in ("given", "called"):
            scaled, _ = train(spelling, scaling, rank)
            assert all(map(torch.equal, plain, scaled)), (spelling, scaling)
        if rank == 0:
            print(f"{spelling}: loss {loss:.4f}, plain DDP {dense:.4f}")
        assert loss < 1.01 * dense, spelling
    if rank == 0:
        print("scaled alike")
