"""Save on some nodes of some ranks, or go on from what others saved: what was not sent is kept."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from common import (
    assert_same_on_all_ranks,
    batch,
    mean_residuals,
    pretend_nodes,
    process_group,
    small_model,
)
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco

action, ranks_a_node, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])


def train(ddp, rank, steps):
    for number in steps:
        x, y = batch(rank, number)
        ddp.zero_grad()
        functional.cross_entropy(ddp(x), y).backward()
        assert_same_on_all_ranks([p.grad for p in ddp.parameters()], "averages")
        with torch.no_grad():
            for parameter in ddp.parameters():
                parameter -= 0.05 * parameter.grad


with process_group() as (rank, size):
    pretend_nodes(rank, ranks_a_node)
    ddp = DistributedDataParallel(small_model(), bucket_cap_mb=0.1)
    policy = lgreco.LGreCo(every=4, start=4, window=2)
    compression = lgreco.compress(ddp, lgreco.method("low_rank:2:min_ratio=1"), policy)
    if action == "save":
        train(ddp, rank, range(5))
        states = compression.gathered_state_dict()
        means = mean_residuals(compression)
        if rank == 0:
            torch.save([states, means], folder / "saved.pt")
    else:
        states, means = torch.load(folder / "saved.pt", weights_only=True)
        is_resized = (len(states), states[0]["size"]) != (size, compression.state_dict()["size"])
        if is_resized:
            try:
                compression.load_state_dict(states)
                raise AssertionError("loaded the states of other ranks")
            except lgreco.StateError as error:
                assert "world_size_change" in str(error), error
        try:
            compression.load_state_dict(states[:-1], world_size_change="mean")
            raise AssertionError("loaded the states of some ranks")
        except lgreco.StateError:
            pass
        compression.load_state_dict(states, world_size_change="mean")
        now = mean_residuals(compression)
        assert now.keys() == means.keys()
        for name, mean in means.items():
            assert now[name].shape == mean.shape
            if mean.numel():
                assert (now[name] - mean).abs().max() <= 1e-6 * mean.abs().max(), name
        assert compression.state_dict()["step"] == 5
        train(ddp, rank, range(5, 9))
        assert compression.stats()["steps"] == 9
        assert compression.stats()["plans"] == 2
        compression.load_state_dict(states, world_size_change="reset")
        assert (compression.stats()["residual_norm"] == 0) == is_resized
        train(ddp, rank, range(5, 9))
    dist.barrier()
    if rank == 0:
        print(f"{action} on {size} ranks, {ranks_a_node} a node: done")
