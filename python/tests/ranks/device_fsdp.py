"""FSDP2, two shards in each of two replicas, on the fake device: the bits of the CPU, no race."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

sys.path.insert(0, str(Path(__file__).parents[3] / "tests/fake_device"))
import fake_device

import lgreco

SHARDS, REPLICAS, STEPS = 2, 2, 4


def train(kind: str, method: str, replicas: dist.ProcessGroup, rank: int) -> list[torch.Tensor]:
    mesh = init_device_mesh(kind, (REPLICAS, SHARDS), mesh_dim_names=("replicate", "shard"))
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)]
    model = nn.Sequential(*layers).to(kind)
    for part in (model[0], model[2], model):
        fully_shard(part, mesh=mesh["shard"])
    lgreco.compress_replicas(
        model, lgreco.method(method), replicate_group=replicas, timeout=60, lanes=2
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)
    generator = torch.Generator().manual_seed(rank)
    for _ in range(STEPS):
        x = torch.randn(8, 64, generator=generator).to(kind)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return [parameter.to_local().detach().cpu() for parameter in model.parameters()]


dist.init_process_group("cpu:gloo,fake:fake_collectives")
torch.set_num_threads(1)
warnings.simplefilter("ignore")
rank = dist.get_rank()
fake_device.set_delays(100, 1000)
replicas = [dist.new_group([i, i + SHARDS]) for i in range(SHARDS)][rank % SHARDS]
for method in ("dense", "quantize:4", "topk:0.05"):
    expected = train("cpu", method, replicas, rank)
    found = train("fake", method, replicas, rank)
    races = fake_device.take_races()
    assert not races, races[:3]
    for a, b in zip(expected, found, strict=True):
        assert torch.equal(a, b), f"{method}: {(a - b).abs().max()}"
if rank == 0:
    print("shards have the bits of the CPU, and no race")
sys.stdout.flush()
dist.barrier()
os._exit(0)
