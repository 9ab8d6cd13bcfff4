"""What has no gradient anywhere stands still: a padding row, and pruned weights, under Adam."""

import torch
from common import process_group
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import lgreco

STEPS = 30
METHODS = ["cast:bf16", "quantize:1", "quantize:2", "quantize:4", "quantize:8", "topk:0.02"]


def pruned(weight: Tensor) -> Tensor:
    """Where weights are zero and stay so."""
    return torch.rand(weight.shape, generator=torch.Generator().manual_seed(1)) < 0.5


def train(spelling: str, rank: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(1000, 64, padding_idx=0), nn.Flatten(), nn.Linear(512, 64))
    embedding, linear = net[0].weight, net[2].weight
    mask = pruned(linear)
    linear.register_hook(lambda gradient: gradient.masked_fill(mask, 0))
    with torch.no_grad():
        linear.masked_fill_(mask, 0)
        unseen = torch.cat([embedding[:1], embedding[200:]]).clone()
    ddp = DistributedDataParallel(net)
    lgreco.compress(ddp, lgreco.method(spelling))
    optimizer = torch.optim.Adam(ddp.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(rank)
    before = linear.detach().clone()
    for _ in range(STEPS):
        tokens = torch.randint(1, 200, (16, 8), generator=generator)
        tokens[:, 6:] = 0
        optimizer.zero_grad()
        ddp(tokens).square().mean().backward()
        optimizer.step()
    assert not torch.equal(linear, before), spelling
    assert torch.equal(torch.cat([embedding[:1], embedding[200:]]), unseen), spelling
    assert not linear[mask].any(), spelling


with process_group() as (rank, size):
    for spelling in METHODS:
        train(spelling, rank)
    if rank == 0:
        print("what has no gradient stands still")
