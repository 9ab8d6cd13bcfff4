"""One training run of ResNet-18, one process per rank. Start it with torchrun:

    torchrun --standalone --nproc-per-node 2 -m experiments.resnet18.train --output run.jsonl \
        --method low_rank:4 --policy lgreco

Rank 0 writes the log (see lgreco.run_log for its lines).
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.distributed as dist
import typer
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco
from experiments.common.images import Images, load_images, shrunk
from experiments.common.loopback import loopback_bytes
from experiments.resnet18.model import ResNet18
from lgreco.run_log import RunLog

WARM_UP_SHARE = 0.1
COMPUTE_PROBE_STEPS = 10
EVALUATIONS = 8
SOME_IMAGES = 1_000  # for every evaluation but the last


@dataclass
class Settings:
    """What a run is made of; see `main` for the meaning of each."""

    name: str
    method: str
    policy: str
    high: str
    levels: str
    alpha: float
    steps: int
    batch: int
    width: int
    seed: int
    learning_rate: float
    plan_every: int
    plan_start: int
    test_images: int


class Training:
    """One rank's side of a run."""

    def __init__(self, settings: Settings, images: Images) -> None:
        self.settings = settings
        self.images = images
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        torch.manual_seed(settings.seed)
        model = ResNet18(images.classes, images.train_x.shape[1], settings.width)
        model = model.to(memory_format=torch.channels_last)  # a quarter faster on a CPU
        # Each rank keeps its own batch-norm statistics, so that only gradients travel.
        self.ddp = DistributedDataParallel(model, forward_sync_buffers=False)
        self.compression = self._compress()
        self.optimizer = torch.optim.SGD(
            self.ddp.parameters(), settings.learning_rate, momentum=0.9, weight_decay=5e-4
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        self.train_x = images.normalised(images.train_x)
        self.batches = self._batches()

    def _compress(self) -> lgreco.Compression | None:
        if self.settings.method == "none":
            return None
        method = lgreco.method(self.settings.method)
        return lgreco.compress(self.ddp, method, self._policy(method), seed=self.settings.seed)

    def _policy(self, method: lgreco.Method) -> lgreco.Policy:
        settings = self.settings
        adaptive = lgreco.LGreCo(
            every=settings.plan_every,
            start=settings.plan_start,
            levels=settings.levels,
            alpha=settings.alpha,
        )
        if settings.policy == "lgreco":
            return adaptive
        if settings.policy in ("accordion", "accordion+lgreco"):
            then = adaptive if settings.policy == "accordion+lgreco" else None
            high = lgreco.method(settings.high)
            return lgreco.Accordion(method, high, every=settings.plan_every, then=then)
        return lgreco.Uniform()

    def _rate(self, step: int) -> float:
        warm_up = WARM_UP_SHARE * self.settings.steps
        progress = min(1.0, step / self.settings.steps)
        return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * progress))

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's share of a shuffled data set, again and again; flipped at random."""
        generator = torch.Generator().manual_seed(self.settings.seed)
        batch = self.settings.batch
        while True:
            order = torch.randperm(len(self.train_x), generator=generator)[self.rank :: self.ranks]
            for start in range(0, len(order) - batch + 1, batch):
                chosen = order[start : start + batch]
                flip = torch.rand(batch, generator=generator) < 0.5
                x = self.train_x[chosen]
                x[flip] = x[flip].flip(3)
                yield x, self.images.train_y[chosen]

    def step(self) -> float:
        """One optimiser step; returns this rank's loss."""
        x, y = next(self.batches)
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self.ddp(x), y)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.item()

    def compute_seconds(self) -> float:
        """Median time of forward and backward without communication. Changes no parameter."""
        x, y = self.train_x[: self.settings.batch], self.images.train_y[: self.settings.batch]
        buffers = [buffer.clone() for buffer in self.ddp.buffers()]
        seconds = []
        for _ in range(COMPUTE_PROBE_STEPS):
            dist.barrier()
            begin = time.perf_counter()
            with self.ddp.no_sync():
                functional.cross_entropy(self.ddp(x), y).backward()
            seconds.append(time.perf_counter() - begin)
        self.optimizer.zero_grad()
        for buffer, saved in zip(self.ddp.buffers(), buffers, strict=True):
            buffer.copy_(saved)
        return sorted(seconds)[len(seconds) // 2]

    @torch.no_grad()
    def evaluate(self, count: int) -> tuple[float, float]:
        """Accuracy in percent and loss on the first `count` test images, shared by the ranks."""
        self.ddp.eval()
        sums = torch.zeros(3, dtype=torch.float64)
        mine = torch.arange(min(count, len(self.images.test_y)))[self.rank :: self.ranks]
        for chosen in mine.split(500):
            y = self.images.test_y[chosen]
            logits = self.ddp.module(self.images.normalised(self.images.test_x[chosen]))
            sums += torch.tensor(
                [
                    (logits.argmax(1) == y).sum().item(),
                    functional.cross_entropy(logits, y, reduction="sum").item(),
                    len(y),
                ],
                dtype=torch.float64,
            )
        self.ddp.train()
        dist.all_reduce(sums)
        return 100 * (sums[0] / sums[2]).item(), (sums[1] / sums[2]).item()

    def bytes_sent(self, step: int) -> float:
        """By this rank in `step` steps: counted, or what a ring all-reduce of DDP sends."""
        if self.compression is not None:
            return self.compression.stats()["bytes_sent"]
        parameters: list[nn.Parameter] = list(self.ddp.parameters())
        payload = sum(p.numel() * p.element_size() for p in parameters)
        return step * 2 * (self.ranks - 1) / self.ranks * payload


def run(settings: Settings, images: Images, log: RunLog) -> None:
    """Train, evaluate now and then, and write everything to the log."""
    training = Training(settings, images)
    compute = training.compute_seconds()
    layers = {
        name: list(parameter.shape) for name, parameter in training.ddp.module.named_parameters()
    }
    log.start(settings.name, training.images.name, training.ranks, layers, vars(settings))
    seconds = loopback = 0.0
    version = -1
    segment = math.ceil(settings.steps / EVALUATIONS)
    for first in range(0, settings.steps, segment):
        last = min(first + segment, settings.steps)
        dist.barrier()
        begin, loopback_begin = time.perf_counter(), loopback_bytes()
        for step in range(first, last):
            loss = training.step()
            log.step(step + 1, loss)
            if training.compression is not None and (step == 0 or _plan_step(settings, step)):
                version = log.plan_if_new(training.compression.plan, version)
        sent = training.bytes_sent(last)  # waits for what is in flight
        dist.barrier()
        seconds += time.perf_counter() - begin
        loopback += (loopback_bytes() - loopback_begin) / training.ranks
        final = last == settings.steps
        images = settings.test_images
        accuracy, test_loss = training.evaluate(images if final else min(images, SOME_IMAGES))
        log.evaluation(last, accuracy, test_loss, sent)
    stats = {} if training.compression is None else training.compression.stats()
    log.end(
        steps=settings.steps,
        seconds=seconds,
        compute_s=compute,
        bytes_sent=training.bytes_sent(settings.steps),
        loopback_bytes=loopback,
        accuracy=accuracy,
        loss=test_loss,
        stats=stats,
    )


def _plan_step(settings: Settings, step: int) -> bool:
    """Asking for the plan waits for the step, so it is not done after every one."""
    done = step + 1
    decided = "accordion" in settings.policy and done % settings.plan_every == 0
    since_start = done - settings.plan_start
    planned = "lgreco" in settings.policy and since_start % settings.plan_every == 0
    return decided or (planned and since_start >= 0)


def main(
    output: Annotated[Path, typer.Option(help="Where rank 0 writes the run's log (JSON lines).")],
    name: Annotated[str, typer.Option(help="The run's name in tables and plots.")] = "run",
    method: Annotated[str, typer.Option(help="A level, or 'none' for plain DDP.")] = "none",
    policy: Annotated[
        str, typer.Option(help="uniform, lgreco, accordion or accordion+lgreco.")
    ] = "uniform",
    high: Annotated[str, typer.Option(help="Accordion's level outside of critical regimes.")] = "",
    levels: Annotated[str, typer.Option(help="L-GreCo's candidates: same or mixed.")] = "same",
    alpha: Annotated[float, typer.Option(help="L-GreCo's budget in references' errors.")] = 1.0,
    steps: Annotated[int, typer.Option(min=1)] = 1000,
    batch: Annotated[int, typer.Option(min=1, help="Images per rank and step.")] = 32,
    width: Annotated[int, typer.Option(min=1, help="Channels of the first stage.")] = 16,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    learning_rate: Annotated[float, typer.Option(help="At its peak, after the warm-up.")] = 0.02,
    plan_every: Annotated[int, typer.Option(min=1, help="Steps between plans.")] = 200,
    plan_start: Annotated[int, typer.Option(min=1, help="Step of the first plan.")] = 100,
    test_images: Annotated[int, typer.Option(min=1, help="For the last evaluation.")] = 10_000,
    shrink: Annotated[int, typer.Option(min=1, help="Divide height and width by this.")] = 1,
    data: Annotated[Path | None, typer.Option(help="Folder of CIFAR-100.")] = None,
) -> None:
    """Train ResNet-18 on real images; run it under torchrun."""
    settings = Settings(
        name, method, policy, high, levels, alpha, steps, batch, width, seed, learning_rate,
        plan_every, plan_start, test_images,
    )  # fmt: skip
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    try:
        writes = output if dist.get_rank() == 0 else None
        with contextlib.closing(RunLog(writes)) as run_log:
            run(settings, shrunk(load_images(data), shrink), run_log)
    finally:
        # With the model gone, the group's threads end here, and not at the exit of Python, where
        # releasing a tensor aborts the process.
        gc.collect()
        dist.destroy_process_group()


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)  # plain lines, that torchrun can prefix
    app.command()(main)
    app()
