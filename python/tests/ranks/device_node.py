"""Node first on the fake device, two nodes of two: summed there, with the bits of the CPU."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from common import assert_same_on_all_ranks, batch
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parents[3] / "tests/fake_device"))
import fake_device

import lgreco

STEPS = 4
RANKS_OF_NODE = 2


def model_of_matrices() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(192, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 10)]
    return nn.Sequential(nn.Flatten(), *layers)


def train(kind: str, method: str, dtype: torch.dtype, **of_ddp: bool) -> list[torch.Tensor]:
    model = model_of_matrices().to(dtype).to(kind)
    ddp = DistributedDataParallel(model, bucket_cap_mb=0.05, **of_ddp)
    compression = lgreco.compress(ddp, lgreco.method(method), timeout=60)
    for step in range(STEPS):
        x, y = batch(dist.get_rank(), step)
        ddp.zero_grad()
        functional.cross_entropy(ddp(x.to(dtype).to(kind)).float(), y.to(kind)).backward()
        with torch.no_grad():
            for parameter in ddp.parameters():
                parameter -= 0.05 * parameter.grad
    parameters = [parameter.detach().cpu() for parameter in ddp.parameters()]
    assert_same_on_all_ranks(parameters, "parameters")
    staged = compression.memory()["staging"]
    return [*parameters, torch.tensor(staged, dtype=torch.float64)]


os.environ["LOCAL_WORLD_SIZE"] = str(RANKS_OF_NODE)
os.environ["LOCAL_RANK"] = str(int(os.environ["RANK"]) % RANKS_OF_NODE)
dist.init_process_group("cpu:gloo,fake:fake_collectives")
torch.set_num_threads(1)
warnings.simplefilter("ignore")
rank = dist.get_rank()
for delay_us in (0, 2000):
    fake_device.set_delays(delay_us // 2, delay_us)
    for method, dtype, of_ddp in [
        ("quantize:4", torch.float32, {}),
        ("topk:0.05", torch.bfloat16, {}),
        ("low_rank:2:min_ratio=1", torch.float32, {"gradient_as_bucket_view": True}),
        ("entropy:0.5", torch.float16, {"find_unused_parameters": True}),
    ]:
        *expected, on_host = train("cpu", method, dtype, **of_ddp)
        *found, on_device = train("fake", method, dtype, **of_ddp)
        races = fake_device.take_races()
        assert not races, races[:3]
        for a, b in zip(expected, found, strict=True):
            assert torch.equal(a, b), f"{method}: {(a - b).abs().max()}"
        gradients = sum(p.nbytes for p in expected)
        assert on_device < on_host, f"{method}: {on_device} of {on_host}, gradients {gradients}"
if rank == 0:
    print("nodes have the bits of the CPU, and no race")
sys.stdout.flush()
dist.barrier()
os._exit(0)
