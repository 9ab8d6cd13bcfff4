"""The ways in which DDP can be used; with dense() the result must be that of plain DDP."""

import torch
from common import METHODS, assert_same_on_all_ranks, batch, process_group, small_model
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco


def train(ddp, rank, steps=6, accumulate=1):
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.05)
    dtype = next(ddp.parameters()).dtype
    for step in range(steps):
        optimizer.zero_grad()
        for micro in range(accumulate):
            x, y = batch(rank, 10 * step + micro)
            last = micro == accumulate - 1
            with torch.enable_grad() if last else ddp.no_sync():
                functional.cross_entropy(ddp(x.to(dtype)).float(), y).backward()
        optimizer.step()
        assert_same_on_all_ranks(list(ddp.parameters()), f"step {step}")
    return [p.detach().clone() for p in ddp.parameters()]


class SometimesUnused(nn.Module):
    """Uses `left` in even calls, `right` in odd ones, `never` not at all."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right = nn.Linear(192, 100), nn.Linear(192, 100)
        self.never = nn.Linear(192, 100)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        layer = self.left if self.calls % 2 else self.right
        return layer(x.flatten(1))


def wrap(model, method, lanes=2, **options):
    ddp = DistributedDataParallel(model, **options)
    return ddp, lgreco.compress(ddp, lgreco.method(method), lanes=lanes)


def check_lanes_give_the_same_bits(rank, method):
    one, _ = wrap(small_model(), method, lanes=1, bucket_cap_mb=0.1)
    two, _ = wrap(small_model(), method, lanes=2, bucket_cap_mb=0.1)
    for a, b in zip(train(one, rank), train(two, rank), strict=True):
        assert torch.equal(a, b)


def check_dense_equals_plain_ddp(rank):
    plain = DistributedDataParallel(small_model(), bucket_cap_mb=0.1)
    ours, _ = wrap(small_model(), "dense", bucket_cap_mb=0.1)
    for a, b in zip(train(plain, rank), train(ours, rank), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def check_memory_formats_agree(rank, method):
    contiguous, _ = wrap(small_model(), method, bucket_cap_mb=0.1)
    model = small_model().to(memory_format=torch.channels_last)
    assert not model[3].weight.is_contiguous()
    channels_last, _ = wrap(model, method, bucket_cap_mb=0.1)
    for a, b in zip(train(contiguous, rank, 1), train(channels_last, rank, 1), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def check_unused_parameters(rank, size, method):
    ddp, compression = wrap(SometimesUnused(), method, find_unused_parameters=True)
    for step in range(4):
        ddp.zero_grad(set_to_none=True)
        x, y = batch(rank, step)
        functional.cross_entropy(ddp(x), y).backward()
        used, idle = ("left", "right") if step % 2 == 0 else ("right", "left")
        assert getattr(ddp.module, used).weight.grad is not None
        assert getattr(ddp.module, idle).weight.grad is None, "globally unused keeps no gradient"
        assert ddp.module.never.weight.grad is None
    layers = compression.state_dict()["layers"]
    assert layers["never.weight"]["residual"].numel() == 0
    assert compression.stats()["steps"] == 4


def check_accumulation_is_one_step(rank, method):
    ddp, compression = wrap(small_model(), method)
    train(ddp, rank, steps=3, accumulate=4)
    assert compression.stats()["steps"] == 3


with process_group() as (rank, size):
    check_dense_equals_plain_ddp(rank)
    for method in METHODS:
        for options in (
            {"bucket_cap_mb": 0.01},
            {"bucket_cap_mb": 100},
            {"static_graph": True, "bucket_cap_mb": 0.1},
            {"find_unused_parameters": True, "bucket_cap_mb": 0.1},
            {"gradient_as_bucket_view": True, "bucket_cap_mb": 0.1},
        ):
            train(wrap(small_model(), method, **options)[0], rank)
        train(wrap(small_model().bfloat16(), method, bucket_cap_mb=0.1)[0], rank)
        check_lanes_give_the_same_bits(rank, method)
        check_memory_formats_agree(rank, method)
        check_unused_parameters(rank, size, method)
        check_accumulation_is_one_step(rank, method)
    if rank == 0:
        print(f"modes agree on {size} ranks")
