"""The training loop: one rank's side of a run of any task."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import lgreco
from experiments.common.task import Score, Task
from lgreco.run_log import RunLog
from tools.loopback import loopback_bytes

COMPUTE_PROBE_STEPS = 10
SOME_SAMPLES = 1_000  # for every evaluation but the last


@dataclass(frozen=True)
class Result:
    """How a run ended, as lgreco.run_log says it; accuracy and loss are those of the test data."""

    steps: int
    seconds: float
    compute_s: float
    bytes_sent: float
    loopback_bytes: float
    accuracy: float
    loss: float
    stats: dict[str, float]


class Training:
    """A task's model under DDP, its optimiser, schedule and data. All methods are collective.

    Without a method gradients travel as DDP sends them.
    """

    def __init__(
        self,
        task: Task,
        seed: int,
        method: lgreco.Method | None = None,
        policy: lgreco.Policy | None = None,
    ) -> None:
        self.task, self.seed = task, seed
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        torch.manual_seed(seed)
        # Each rank keeps its own batch-norm statistics, so that only gradients travel.
        self.ddp = DistributedDataParallel(task.model(), forward_sync_buffers=False)
        self.compression = method and lgreco.compress(self.ddp, method, policy, seed=seed)
        self.optimizer = task.optimizer(self.ddp.parameters())
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, task.rate)
        self.batches = task.batches(seed, self.rank, self.ranks)

    def backward(self) -> float:
        """Gradients of the next batch; returns this rank's loss."""
        self.optimizer.zero_grad()
        loss = self.task.loss(self.ddp, next(self.batches))
        loss.backward()
        return loss.item()

    def update(self) -> None:
        self.optimizer.step()
        self.schedule.step()

    def compute_seconds(self) -> float:
        """Median time of forward and backward without communication. Changes nothing."""
        batch = next(self.task.batches(self.seed, self.rank, self.ranks))
        buffers = [buffer.clone() for buffer in self.ddp.buffers()]
        seconds = []
        for _ in range(COMPUTE_PROBE_STEPS):
            dist.barrier()
            begin = time.perf_counter()
            with self.ddp.no_sync():
                self.task.loss(self.ddp, batch).backward()
            seconds.append(time.perf_counter() - begin)
        self.optimizer.zero_grad()
        for buffer, saved in zip(self.ddp.buffers(), buffers, strict=True):
            buffer.copy_(saved)
        return sorted(seconds)[len(seconds) // 2]

    @torch.no_grad()
    def evaluate(self, most: int | None) -> Score:
        """On the first `most` test samples, or all, shared by the ranks."""
        self.ddp.eval()
        sums = self.task.test_sums(self.ddp.module, self.rank, self.ranks, most)
        self.ddp.train()
        dist.all_reduce(sums)
        return Score.of(sums)

    def bytes_sent(self, steps: int) -> float:
        """By this rank in so many steps: counted, or what a ring all-reduce of DDP sends."""
        if self.compression is not None:
            return self.compression.stats()["bytes_sent"]
        payload = sum(p.numel() * p.element_size() for p in self.ddp.parameters())
        return steps * 2 * (self.ranks - 1) / self.ranks * payload


def train(
    training: Training,
    path: Path | None,
    name: str,
    settings: Mapping[str, object],
    *,
    evaluations: int = 1,
    test_samples: int | None = None,
) -> Result:
    """A whole run, with its log in `path`, if any. Collective.

    It is evaluated so many times, the last time at the end on `test_samples` (None: all)."""
    task, steps = training.task, training.task.steps
    compute = training.compute_seconds()
    layers = {layer: list(p.shape) for layer, p in training.ddp.module.named_parameters()}
    own = {"task": task.name, "metric": task.metric, "steps": steps, "batch": task.batch}
    log = RunLog(
        path,
        compression=training.compression,
        settings={**own, **settings},
        name=name,
        data=task.data,
        layers=layers,
        ranks=training.ranks,
    )
    seconds = loopback = 0.0
    segment = math.ceil(steps / evaluations)
    with log:
        for first in range(0, steps, segment):
            last = min(first + segment, steps)
            dist.barrier()
            begin, loopback_begin = time.perf_counter() - seconds, loopback_bytes()
            for _ in range(first, last):
                loss = training.backward()
                training.update()
                log.step(loss, seconds=time.perf_counter() - begin)
            sent = training.bytes_sent(last)  # waits for what is in flight
            dist.barrier()
            seconds = time.perf_counter() - begin
            loopback += (loopback_bytes() - loopback_begin) / training.ranks
            most = (
                test_samples if last == steps else min(SOME_SAMPLES, test_samples or SOME_SAMPLES)
            )
            score = training.evaluate(most)
            log.evaluate(seconds=seconds, bytes_sent=sent, **asdict(score))
        stats = training.compression.stats() if training.compression else {}
        result = Result(steps, seconds, compute, sent, loopback, score.accuracy, score.loss, stats)
        log.end(**{k: v for k, v in asdict(result).items() if k != "steps"})
    return result
