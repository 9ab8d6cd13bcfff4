"""Runs DDP on gradients that are the same on every machine, and prints a hash of each run as JSON.

No BLAS and no libm: a parameter's gradient is what its layer's backward is told, whole numbers
times powers of two. Recorded in golden_runs.json; see test_golden_runs.py.
"""

import hashlib
import json

import torch
import torch.distributed as dist
from common import process_group
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import lgreco

METHODS = [
    "dense", "cast:bf16", "cast:fp16", "quantize:4", "quantize:2:rounding=stochastic", "topk:0.01",
    "topk:0.05:values=fp32", "low_rank:2", "low_rank:4:factors=bf16",
]  # fmt: skip
POLICIES = {
    "lgreco": ("low_rank:4", lgreco.LGreCo(every=4, start=4, window=2)),
    "lgreco mixed": ("quantize:4", lgreco.LGreCo(every=4, start=4, window=2, levels="mixed")),
}
STEPS = 10
SHAPES = {
    "conv": (16, 8, 3, 3),
    "bias": (16,),
    "embedding": (50, 82),
    "hidden": (40, 64),
    "norm": (40,),
    "head": (24, 50),
}


class Told(torch.autograd.Function):
    """Its parameter's gradient is `gradient`."""

    @staticmethod
    def forward(ctx, parameter: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return parameter.new_zeros(())

    @staticmethod
    def backward(ctx, _: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0].clone(), None


class Model(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        for name, shape in SHAPES.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape, dtype=dtype)))

    def forward(self, gradients: dict[str, Tensor]) -> Tensor:
        return sum(Told.apply(p, gradients[name]) for name, p in self.named_parameters())


def whole_numbers(count: int, seed: int) -> Tensor:
    """From -2^15 to 2^15 - 1: an xorshift of the position, in integers alone."""
    x = torch.arange(1, count + 1, dtype=torch.int64) * 0x9E3779B1 + seed * 0x85EBCA6B
    for left, right in ((13, 17), (5, 11)):
        x = (x ^ (x << left)) & 0xFFFFFFFF
        x = x ^ (x >> right)
    return (x & 0xFFFF) - (1 << 15)


def gradients(rank: int, step: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """A part of rank 1 that lasts, and one that passes."""
    given = {}
    for layer, (name, shape) in enumerate(SHAPES.items()):
        count = torch.Size(shape).numel()
        seed = 1000 * layer + 10 * step + rank
        passing = whole_numbers(count, seed).reshape(shape[0], -1)
        rows = whole_numbers(shape[0], 7 + layer).reshape(-1, 1) >> 12
        cols = whole_numbers(count // shape[0], 77 + layer).reshape(1, -1) >> 11
        total = (rows * cols).double() / 128 + passing.double() / 65536
        given[name] = total.to(dtype).reshape(shape)
    return given


def run(rank: int, method: str, policy, dtype: torch.dtype, **options) -> str:
    """A hash of the averaged gradients of all steps."""
    ddp = DistributedDataParallel(Model(dtype), bucket_cap_mb=0.01)  # several buckets
    compression = lgreco.compress(ddp, lgreco.method(method), policy, **options)
    digest = hashlib.sha256()
    for step in range(STEPS):
        ddp.zero_grad()
        ddp(gradients(rank, step, dtype)).backward()
        for _, parameter in ddp.named_parameters():
            digest.update(parameter.grad.contiguous().view(torch.uint8).numpy().tobytes())
    assert compression.stats()["steps"] == STEPS
    return digest.hexdigest()[:16]


def all_runs(rank: int) -> dict[str, str]:
    runs = {}
    for method in METHODS:
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            runs[f"{method} {name}"] = run(rank, method, None, dtype)
        runs[f"{method} no feedback"] = run(rank, method, None, torch.float32, error_feedback=False)
    for name, (method, policy) in POLICIES.items():
        runs[f"{method} {name}"] = run(rank, method, policy, torch.float32)
    return runs


with process_group() as (rank, size):
    runs = all_runs(rank)
    everybody = [None] * size
    dist.all_gather_object(everybody, runs)
    assert all(other == runs for other in everybody), everybody
    if rank == 0:
        print(json.dumps(runs))
