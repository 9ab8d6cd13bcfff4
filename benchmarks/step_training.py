"""Whole training steps on links of 100 Mb/s to no limit, against DDP and PyTorch's hooks.

python -m benchmarks.step_training          (make bench-training; needs root for two namespaces)

Two ranks, one at each end of the link, each with one thread for compute. All contenders live in the
same two processes, and their steps alternate, so that whatever else the machine does meets all.
Compute is a step of the same model whose hook communicates nothing. Beside every step stands what
`lgreco.step_time` predicts from compute, codec times and the link. At 1 Gb/s, where what matters is
how long a step computes, ResNet-18 has other batches, too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Annotated

import torch.distributed as dist
import typer

from benchmarks.contenders import (
    CONTENDERS,
    FIRST_PLAN,
    FP16,
    FP32,
    LGRECO_POWERSGD,
    Job,
    job_without_communication,
)
from benchmarks.ranks import results_in, run_as_rank
from benchmarks.report import publish
from benchmarks.step_prediction import (
    Conditions,
    all_reduce_bandwidth,
    fp16_codec_seconds,
    predicted_seconds,
)
from benchmarks.step_report import BATCHES_LINK, StepTime, tables
from benchmarks.workloads import WORKLOADS, Workload
from lgreco.advise import NetworkTiming
from lgreco.advise.network import time_network
from tools.namespaces import linked_namespaces, require_namespaces, run_on_link

LINKS: dict[str, float | None] = {
    "100 Mb/s": 100,
    "1 Gb/s": 1_000,
    "10 Gb/s": 10_000,
    "unlimited": None,
}
NETWORK_ATTEMPTS = 3
WARM_UP_STEPS = 3  # connections are opened, DDP regroups its buckets
MOST_SECONDS = 900  # of one link and model, on a busy machine; quiet ones take a minute
BATCHES = {"ResNet-18": (4, 8, 16)}  # besides the workload's own
BATCHES_CONTENDERS = (FP32, FP16, LGRECO_POWERSGD)


@dataclass
class Contest:
    """The jobs of one workload on this rank."""

    jobs: dict[str, Job]
    alone: Job

    def warm_up(self) -> None:
        for job in (self.alone, *self.jobs.values()):
            job.seconds(FIRST_PLAN + 2 if job.makes_plans else WARM_UP_STEPS)

    def rounds(self, count: int) -> tuple[list[float], dict[str, list[float]]]:
        """Seconds of compute, and of every job's steps. Collective."""
        compute, seconds = [], {name: [] for name in self.jobs}
        for index in range(count):
            compute.append(self.alone.seconds())
            order = list(self.jobs.items())
            for name, job in order if index % 2 == 0 else order[::-1]:
                seconds[name].append(job.seconds())
        return compute, seconds


def contest(link: str, workload: Workload, names: Iterable[str], rounds: int) -> Iterator[StepTime]:
    """Collective. `names`: of CONTENDERS."""
    alone, clock = job_without_communication(workload)
    jobs = {name: CONTENDERS[name](workload) for name in names}
    both = Contest(jobs, alone)
    both.warm_up()
    network = idle_network()
    clock.windows.clear()
    before = {name: job.stats() for name, job in jobs.items()}
    compute, seconds = both.rounds(rounds)
    conditions = Conditions(
        compute=median(compute),
        window=median(clock.windows),
        bucket_bytes=[4 * elements for elements in clock.elements],
        ranks=dist.get_world_size(),
        reduce_bandwidth=all_reduce_bandwidth(),
        network=network,
        ddp=median(seconds[FP32]),
    )
    fp16_codec = fp16_codec_seconds(clock.elements)
    for name, job in jobs.items():
        spent = {
            key: (value - before[name][key]) / rounds
            for key, value in job.stats().items()
            if not isinstance(value, str)
        }
        yield StepTime(
            link=link,
            model=workload.name,
            samples=workload.samples,
            contender=name,
            compute=compute,
            seconds=seconds[name],
            encode_s=spent.get("encode_s"),
            decode_s=spent.get("decode_s"),
            wait_s=spent.get("wait_s"),
            sent_bytes=spent.get("bytes_sent"),
            wire_s=conditions.wire_of(name, job, spent),
            predicted_s=predicted_seconds(name, job, conditions, fp16_codec),
            window_s=conditions.window,
            early=conditions.early,
            overlap=conditions.overlap,
            reduce_bandwidth=conditions.reduce_bandwidth,
            bandwidth=network.bandwidth,
            latency=network.latency,
            levels=job.levels(),
        )


def idle_network() -> NetworkTiming:
    """The best of several attempts: what else the machine does only slows it. Collective."""
    timings = [time_network(dist.group.WORLD) for _ in range(NETWORK_ATTEMPTS)]
    return NetworkTiming(
        bandwidth=max(timing.bandwidth for timing in timings),
        latency=min(timing.latency for timing in timings),
    )


def contest_of(link: str, model: str, samples: int, rounds: int) -> Iterator[StepTime]:
    """Collective."""
    workload = WORKLOADS[model]
    names = CONTENDERS if samples == workload.samples else BATCHES_CONTENDERS
    return contest(link, replace(workload, samples=samples), names, rounds)


def run_link(link: str, model: str, samples: int, rounds: int) -> list[StepTime]:
    command = [sys.executable, "-m", "benchmarks.step_training", f"--link={link}"]
    command += [f"--model={model}", f"--samples={samples}", f"--rounds={rounds}"]
    with linked_namespaces(LINKS[link]) as names:
        return results_in(run_on_link(names, command, timeout=MOST_SECONDS), StepTime)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Steps of each contender.")] = 5,
    model: Annotated[list[str] | None, typer.Option(help="Only this model; repeatable.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this link; repeatable.")] = None,
    link: Annotated[str, typer.Option(hidden=True, help="Run as a rank on this link.")] = "",
    samples: Annotated[int, typer.Option(hidden=True, help="Of a rank's batch.")] = 0,
) -> None:
    """Time whole training steps on four links."""
    models, links = model or list(WORKLOADS), only or list(LINKS)
    if link:
        run_as_rank(lambda: contest_of(link, models[0], samples, rounds))
        return
    require_namespaces()
    runs = [(name, model, WORKLOADS[model].samples) for model in models for name in links]
    if BATCHES_LINK in links:
        runs += [(BATCHES_LINK, model, n) for model in models for n in BATCHES.get(model, ())]
    results = [result for run in runs for result in run_link(*run, rounds)]
    publish("training", [asdict(result) for result in results], tables)


if __name__ == "__main__":
    typer.run(main)
