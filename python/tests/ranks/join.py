"""Uneven inputs: ranks that run out early shadow the others' collectives (torch's Join)."""

import torch
from common import (
    BUFFERS_STAY,
    METHODS,
    assert_same_on_all_ranks,
    batch,
    process_group,
    small_model,
)
from torch.distributed.algorithms.join import Join
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco

with process_group() as (rank, size):
    for spelling in METHODS:
        ddp = DistributedDataParallel(small_model(), bucket_cap_mb=0.1, **BUFFERS_STAY)
        compression = lgreco.compress(ddp, lgreco.method(spelling), drift_check_every=1)
        optimizer = torch.optim.SGD(ddp.parameters(), lr=0.05)
        with Join([ddp]):
            for step in range(3 + 2 * rank):
                optimizer.zero_grad()
                x, y = batch(rank, step)
                functional.cross_entropy(ddp(x), y).backward()
                optimizer.step()
        # Join ends by giving everybody the parameters of a rank that went on to the end.
        assert_same_on_all_ranks(list(ddp.parameters()), spelling)
        assert all(bool(torch.isfinite(p).all()) for p in ddp.parameters())
        assert compression.stats()["steps"] == 3 + 2 * (size - 1), compression.stats()["steps"]
        try:
            with Join([ddp], divide_by_initial_world_size=False):
                raise AssertionError("averages over fewer ranks are not what a hook gives")
        except lgreco.ConfigError as error:
            assert "divide_by_initial_world_size" in str(error), error
    ddp = DistributedDataParallel(small_model())
    lgreco.compress(ddp, lgreco.Dense(), grad_scaler=torch.amp.GradScaler("cpu"))
    try:
        with Join([ddp]):
            raise AssertionError("a joined rank does not read the scale")
    except lgreco.ConfigError as error:
        assert "set_grad_scale" in str(error), error
    if rank == 0:
        print("uneven inputs are joined")
