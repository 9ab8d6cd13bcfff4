"""A small training script that knows nothing of being probed. Arguments: --width, --steps,
--compress, --accumulate."""

import argparse

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lgreco

parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int, default=64)
parser.add_argument("--steps", type=int, default=1000)
parser.add_argument("--compress", action="store_true")
parser.add_argument("--accumulate", type=int, default=1)
options = parser.parse_args()

dist.init_process_group("gloo")
torch.manual_seed(0)
model = nn.Sequential(
    nn.Linear(options.width, options.width), nn.ReLU(), nn.Linear(options.width, options.width)
)
ddp = DistributedDataParallel(model)
if options.compress:
    lgreco.compress(ddp, lgreco.PowerSGD(4))
optimizer = torch.optim.SGD(ddp.parameters(), lr=0.01)
for _ in range(options.steps):
    x = torch.randn(8, options.width)
    for _ in range(options.accumulate - 1):
        with ddp.no_sync():
            ddp(x).square().mean().backward()
    ddp(x).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
