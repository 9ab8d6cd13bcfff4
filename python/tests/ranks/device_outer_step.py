"""Local steps on the fake device: the outer parameters of the run on the CPU, and no race."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[3] / "tests/fake_device"))
import fake_device

import lgreco


def train(rank: int, device: str, dtype: torch.dtype, fragments: int) -> list[torch.Tensor]:
    torch.manual_seed(rank)
    model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 8)).to(dtype).to(device)
    outer = lgreco.OuterStep(model, lgreco.Quantize(4), every=2, fragments=fragments, timeout=60)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)
    for step in range(6):
        x = torch.randn(4, 64, generator=torch.Generator().manual_seed(10 * step + rank))
        optimizer.zero_grad()
        model(x.to(dtype).to(device)).square().mean().backward()
        optimizer.step()
        outer.step()
    state = outer.state_dict()
    assert all(tensor.is_cpu for tensor in state["parameters"].values())
    with outer.outer_parameters():
        common = [parameter.detach().cpu().clone() for parameter in model.parameters()]
    return [
        *common,
        *(parameter.detach().cpu() for parameter in model.parameters()),
        *state["parameters"].values(),
        *state["momentum"].values(),
    ]


dist.init_process_group("cpu:gloo,fake:fake_collectives")
torch.set_num_threads(1)
rank = dist.get_rank()
fake_device.set_delays(50, 500)
for dtype in (torch.float32, torch.bfloat16):
    for fragments in (1, 2):
        expected = train(rank, "cpu", dtype, fragments)
        fake_device.take_races()
        found = train(rank, "fake:0", dtype, fragments)
        races = fake_device.take_races()
        assert not races, races[:3]
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True)), dtype
if rank == 0:
    print("the bits of the CPU, and no race")
sys.stdout.flush()
dist.barrier()
os._exit(0)
