"""Shared by the scripts that tests run on every rank."""

import contextlib
import os
import sys
from collections.abc import Iterator
from inspect import signature

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

METHODS = ["dense", "cast:bf16", "quantize:4", "topk:0.02", "low_rank:2:min_ratio=1"]


@contextlib.contextmanager
def process_group() -> Iterator[tuple[int, int]]:
    """Rank and size of a Gloo group for the length of the block, which ends the process.

    Without taking the group apart: PyTorch 2.13 now and then aborts there ("terminate called
    without an active exception") when a DDP model is still alive, also without lgreco. The
    examples, which free their model first, end in the usual way.
    """
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    yield dist.get_rank(), dist.get_world_size()
    dist.barrier()
    sys.stdout.flush()
    os._exit(0)


# For DDP: forward passes send no buffers. The argument had another name before torch 2.13.
_OF_DDP = signature(DistributedDataParallel).parameters
BUFFERS_STAY = {
    "forward_sync_buffers" if "forward_sync_buffers" in _OF_DDP else "broadcast_buffers": False
}


def small_model(seed: int = 0) -> nn.Module:
    """Convolutions, norms and linear layers: 13 parameters, about 110,000 elements."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Linear(1024, 80), nn.LayerNorm(80), nn.ReLU(), nn.Linear(80, 10, bias=False),
    )  # fmt: skip


def batch(rank: int, step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 * step + rank)
    x = torch.randn(4, 3, 8, 8, generator=generator)
    return x, torch.randint(0, 10, (4,), generator=generator)


def mean_over_ranks(tensor: Tensor) -> Tensor:
    total = tensor.double().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def assert_same_on_all_ranks(tensors: list[Tensor], what: str) -> None:
    """Bit for bit."""
    flat = torch.cat([tensor.detach().flatten().view(torch.uint8) for tensor in tensors])
    everybody = [torch.empty_like(flat) for _ in range(dist.get_world_size())]
    dist.all_gather(everybody, flat)
    for rank, other in enumerate(everybody):
        assert torch.equal(other, everybody[0]), f"{what}: rank {rank} differs from rank 0"


def mean_residuals(compression):
    """By layer, over the ranks that hold it."""
    states = [None] * dist.get_world_size()
    dist.all_gather_object(states, compression.state_dict()["layers"])
    held = {}
    for layers in states:
        for name, layer in layers.items():
            held.setdefault(name, []).append(layer["residual"].double())
    return {name: torch.stack(all_of_them).mean(0) for name, all_of_them in held.items()}


def pretend_nodes(rank, ranks_a_node):
    """As torchrun would start this many ranks on each machine; 0: flat."""
    if ranks_a_node:
        os.environ["LOCAL_WORLD_SIZE"] = str(ranks_a_node)
        os.environ["LOCAL_RANK"] = str(rank % ranks_a_node)
    else:
        os.environ.pop("LOCAL_WORLD_SIZE", None)
