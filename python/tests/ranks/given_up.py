"""A rank that gives up in the middle of a step: its peers get a PeerError at once, not after their
timeout."""

import gc
import os
import sys
import time

import torch
import torch.distributed as dist
from common import BUFFERS_STAY, batch, small_model
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco

TIMEOUT = 60

dist.init_process_group("gloo")
torch.set_num_threads(1)
rank = dist.get_rank()
# Without buffers to synchronise, the gradients are the only communication.
ddp = DistributedDataParallel(small_model(), bucket_cap_mb=0.1, **BUFFERS_STAY)
compression = lgreco.compress(ddp, lgreco.method(sys.argv[1]), timeout=TIMEOUT)


def step(number):
    x, y = batch(rank, number)
    functional.cross_entropy(ddp(x), y).backward()


def fail(_gradient):
    raise RuntimeError("no gradient")


step(0)
store = dist.distributed_c10d._get_default_store()
if rank == 0:
    next(ddp.parameters()).register_hook(fail)  # of the last bucket
    try:
        step(1)
        sys.exit("no error")
    except RuntimeError as error:
        assert "no gradient" in str(error), error
    del ddp, compression
    gc.collect()
    store.get("peers have noticed")  # until then the process, and with it its connections, lives
    print("gave up", flush=True)
    os._exit(0)

begin = time.monotonic()
try:
    step(1)
    sys.exit("no error")
except lgreco.PeerError:
    waited = time.monotonic() - begin
assert waited < TIMEOUT / 4, waited
print("survived", flush=True)
store.set("peers have noticed", "yes")
os._exit(0)
