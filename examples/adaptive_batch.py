"""Accordion's batch-size mode: synchronise after every batch in critical regimes of the training,
after every fourth outside of them. On two ranks:

torchrun --standalone --nproc-per-node 2 examples/adaptive_batch.py
"""

import contextlib

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lgreco

SYNCHRONISATIONS = 120
BATCHES_OUTSIDE = 4


def train() -> None:
    torch.manual_seed(0)
    ddp = DistributedDataParallel(nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 2)))
    level = lgreco.PowerSGD(rank=4)
    policy = lgreco.Accordion(low=level, high=level, every=10, micro_batches=(1, BATCHES_OUTSIDE))
    compression = lgreco.compress(ddp, level, policy)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [SYNCHRONISATIONS // 2], gamma=0.1)

    torch.manual_seed(1 + dist.get_rank())
    batches = 0
    for _ in range(SYNCHRONISATIONS):
        count = compression.micro_batches
        optimizer.zero_grad()
        for index in range(count):
            last = index == count - 1
            with contextlib.nullcontext() if last else ddp.no_sync():
                x = torch.randn(64, 256)
                y = (x[:, :16].sum(dim=1) > 0).long()
                loss = nn.functional.cross_entropy(ddp(x), y) / count
                loss.backward()
        optimizer.step()
        batches += count

        before = schedule.get_last_lr()[0]
        schedule.step()
        compression.on_lr_change(before, schedule.get_last_lr()[0])

    if dist.get_rank() == 0:
        saved = batches / SYNCHRONISATIONS
        print(f"loss {count * loss.item():.3f}, {saved:.2f} batches a synchronisation")


dist.init_process_group("gloo")
train()
dist.destroy_process_group()  # when the model is gone: its threads must not outlive Python
