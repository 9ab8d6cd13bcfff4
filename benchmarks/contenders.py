"""What benchmarks of whole steps compare: ways to average gradients under DDP, by name."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

import lgreco
from benchmarks.training import Trainer
from benchmarks.workloads import Workload

FIRST_PLAN = 12  # step at which it takes effect
_WINDOW = 4
_ONE_BUCKET_MB = 1_000


@dataclass
class Job(Trainer):
    """With one way to average."""

    learning_rate: float = 0.001
    makes_plans: bool = False

    def stats(self) -> dict[str, float]:
        return {} if self.compression is None else self.compression.stats()

    def levels(self) -> dict[str, int]:
        """How many layers have which level; empty for a peer."""
        plan = {} if self.compression is None else self.compression.plan
        return dict(Counter(str(level) for level in plan.values()))

    def gradients(self) -> dict[str, torch.Tensor]:
        named = self.ddp.module.named_parameters()
        return {name: p.grad.detach().clone() for name, p in named if p.grad is not None}


@dataclass
class BucketClock:
    """A hook that communicates nothing, and notes when buckets are ready."""

    ready: list[float] = field(default_factory=list)
    elements: list[int] = field(default_factory=list)
    windows: list[float] = field(default_factory=list)

    # No annotations here: DDP compares them with types, not with their names.
    def hook(self, _state, bucket):
        if not self.ready:
            self.elements = []
        self.ready.append(time.perf_counter())
        self.elements.append(bucket.buffer().numel())
        if bucket.is_last():
            self.windows.append(self.ready[-1] - self.ready[0])
            self.ready = []
        done = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done


def job_without_communication(workload: Workload) -> tuple[Job, BucketClock]:
    clock = BucketClock()
    ddp = _wrapped(workload)
    ddp.register_comm_hook(None, clock.hook)
    return _job(workload, ddp), clock


def _wrapped(workload: Workload, bucket_mb: int | None = None) -> DistributedDataParallel:
    torch.manual_seed(0)
    return DistributedDataParallel(
        workload.model(), bucket_cap_mb=bucket_mb, forward_sync_buffers=False
    )


def _job(
    workload: Workload,
    ddp: DistributedDataParallel,
    compression: lgreco.Compression | None = None,
    *,
    makes_plans: bool = False,
) -> Job:
    batch = workload.batch(torch.Generator().manual_seed(dist.get_rank()))
    return Job(ddp, batch, compression, makes_plans=makes_plans)


def _fp32(workload: Workload) -> Job:
    return _job(workload, _wrapped(workload))


def _fp16(workload: Workload) -> Job:
    ddp = _wrapped(workload)
    ddp.register_comm_hook(None, fp16_compress_hook)
    return _job(workload, ddp)


def _torch_powersgd(workload: Workload) -> Job:
    """In one bucket: over Gloo it crashes with several."""
    ddp = _wrapped(workload, _ONE_BUCKET_MB)
    state = PowerSGDState(None, matrix_approximation_rank=4, start_powerSGD_iter=2)
    ddp.register_comm_hook(state, powerSGD_hook)
    return _job(workload, ddp)


def _ours(level: str, policy: lgreco.Policy | None = None) -> Callable[[Workload], Job]:
    def make(workload: Workload) -> Job:
        ddp = _wrapped(workload)
        compression = lgreco.compress(ddp, lgreco.method(level), policy)
        return _job(workload, ddp, compression, makes_plans=policy is not None)

    return make


FP32 = "DDP fp32"
FP16 = "fp16_compress_hook"
TORCH_POWERSGD = "powerSGD_hook 4, one bucket"
LGRECO_POWERSGD = "L-GreCo low_rank:4"
LGRECO_TIME = "L-GreCo mixed, time"

CONTENDERS: dict[str, Callable[[Workload], Job]] = {
    FP32: _fp32,
    FP16: _fp16,
    TORCH_POWERSGD: _torch_powersgd,
    LGRECO_POWERSGD: _ours("low_rank:4", lgreco.LGreCo(start=FIRST_PLAN, window=_WINDOW)),
    "quantize:4": _ours("quantize:4"),
    "topk:0.01": _ours("topk:0.01"),
    LGRECO_TIME: _ours(
        "low_rank:4",
        lgreco.LGreCo(start=FIRST_PLAN, window=_WINDOW, levels="mixed", objective="time"),
    ),
}
