"""The whole integration, in one file. Run it on two ranks:

torchrun --standalone --nproc-per-node 2 examples/ddp_minimal.py
"""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lgreco


def train() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 2)
    )
    ddp = DistributedDataParallel(model)
    compression = lgreco.compress(
        ddp, lgreco.PowerSGD(rank=4), policy=lgreco.LGreCo(every=50, start=50)
    )

    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.1)
    torch.manual_seed(1 + dist.get_rank())
    for _ in range(200):
        x = torch.randn(64, 256)
        y = (x[:, :16].sum(dim=1) > 0).long()
        loss = nn.functional.cross_entropy(ddp(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    stats = compression.stats()
    if dist.get_rank() == 0:
        print(f"loss {loss.item():.3f}, {stats['ratio']:.1f}x fewer bytes, {stats['plans']} plans")
        for layer, method in compression.plan.items():
            print(f"  {layer:10} {method}")


dist.init_process_group("gloo")
train()
dist.destroy_process_group()  # when the model is gone: its threads must not outlive Python
