"""Save model, optimizer and compression in one file per rank, and go on from there. On two ranks:

torchrun --standalone --nproc-per-node 2 examples/resume.py /tmp/run

The first run ends after half of the steps, as if it was stopped; run it again to resume.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lgreco

STEPS = 100


def train(folder: Path) -> None:
    rank = dist.get_rank()
    torch.manual_seed(0)
    ddp = DistributedDataParallel(nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 2)))
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.1, momentum=0.9)
    compression = lgreco.compress(ddp, lgreco.PowerSGD(rank=4))

    parts = {"model": ddp.module, "optimizer": optimizer, "compression": compression}
    file = folder / f"rank{rank}.pt"
    first = 0
    if file.exists():
        saved = torch.load(file, weights_only=True)
        first = saved["step"]
        for name, part in parts.items():
            part.load_state_dict(saved[name])

    last = STEPS if first else STEPS // 2
    for step in range(first, last):
        generator = torch.Generator().manual_seed(1_000 * step + rank)
        x = torch.randn(64, 256, generator=generator)
        loss = nn.functional.cross_entropy(ddp(x), (x[:, :16].sum(dim=1) > 0).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    folder.mkdir(parents=True, exist_ok=True)
    states = {name: part.state_dict() for name, part in parts.items()}
    torch.save({"step": last, **states}, file.with_suffix(".tmp"))
    file.with_suffix(".tmp").replace(file)  # whole, or not at all
    if rank == 0:
        print(f"steps {first} to {last}, loss {loss.item():.6f}")


dist.init_process_group("gloo")
train(Path(sys.argv[1]))
dist.destroy_process_group()  # when the model is gone: its threads must not outlive Python
