"""A killed peer: the survivors get a PeerError with the place, and their parameters stay."""

import os
import signal
import sys

import torch
import torch.distributed as dist
from common import BUFFERS_STAY, batch, small_model
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco

rank, size = int(sys.argv[1]), int(sys.argv[2])
victim = int(sys.argv[5]) if len(sys.argv) > 5 else size - 1
dist.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=size)
# Without buffers to synchronise, the gradients are the only communication.
ddp = DistributedDataParallel(small_model(), bucket_cap_mb=0.1, **BUFFERS_STAY)
compression = lgreco.compress(ddp, lgreco.method(sys.argv[4]), timeout=20)
optimizer = torch.optim.SGD(ddp.parameters(), lr=0.05)
for step in range(6):
    if rank == victim and step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    before = [p.detach().clone() for p in ddp.parameters()]
    x, y = batch(rank, step)
    try:
        optimizer.zero_grad()
        functional.cross_entropy(ddp(x), y).backward()
    except lgreco.PeerError as error:
        assert "step 4" in str(error) and f"rank {rank}" in str(error), error
        assert all(torch.equal(a, b) for a, b in zip(before, ddp.parameters(), strict=True))
        print("survived", flush=True)
        os._exit(0)  # the default group is broken as well
    optimizer.step()
sys.exit("no error")
