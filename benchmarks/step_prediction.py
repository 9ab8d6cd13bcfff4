"""What `lgreco.step_time` says a step takes, for the contenders of the benchmark of steps."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
import torch.distributed as dist

from benchmarks.contenders import FP16, FP32, Job
from lgreco import step_time
from lgreco.advise import NetworkTiming
from lgreco.advise.levels import time_levels

_REPETITIONS = 5
_REDUCED_ELEMENTS = 2**21


@dataclass(frozen=True)
class Conditions:
    """What a prediction is made from; seconds, bytes, bytes per second.

    Attributes:
        reduce_bandwidth: of Gloo's all_reduce, which DDP and its hooks use.
        network: of messages from each rank to each, of which compressed sums are made.
        ddp: plain DDP's step.
    """

    compute: float
    window: float
    bucket_bytes: Sequence[int]
    ranks: int
    reduce_bandwidth: float
    network: NetworkTiming
    ddp: float

    @property
    def early(self) -> float:
        return step_time.early_share(self.bucket_bytes)

    @property
    def overlap(self) -> float:
        """How much communication is hidden is seen from DDP's step."""
        return step_time.measured_overlap(
            self.ddp - self.compute, self.peer_wire(FP32), early=self.early, window=self.window
        )

    def wire_of(self, name: str, job: Job, spent: Mapping[str, float]) -> float | None:
        """What a step's bytes take at the link's rate."""
        if name in (FP32, FP16):
            return self.peer_wire(name)
        if job.compression is None:
            return None
        return spent["bytes_sent"] / self.network.bandwidth

    def peer_wire(self, name: str) -> float:
        payload = sum(self.bucket_bytes) / (2 if name == FP16 else 1)
        collectives = step_time.collectives_of_ddp(len(self.bucket_bytes))
        return step_time.wire_seconds(
            payload, collectives, self.ranks, self.reduce_bandwidth, self.network.latency
        )

    def wire(self, payload: float, collectives: int) -> float:
        return step_time.wire_seconds(
            payload, collectives, self.ranks, self.network.bandwidth, self.network.latency
        )

    def step(self, codec: float, wire: float, overlap: float) -> float:
        hiding = {"early": self.early, "window": self.window, "overlap": overlap}
        return step_time.step_seconds(self.compute, codec, wire, **hiding)


def predicted_seconds(
    name: str, job: Job, conditions: Conditions, fp16_codec: float
) -> float | None:
    """None for a contender that the model does not know. DDP's own step is predicted as if all
    were hidden that can be: what is really hidden is seen from its step."""
    if name == FP32:
        return conditions.step(0.0, conditions.peer_wire(name), overlap=1.0)
    if name == FP16:
        return conditions.step(fp16_codec, conditions.peer_wire(name), conditions.overlap)
    if job.compression is None:
        return None
    return conditions.step(*_codec_and_wire(job, conditions), conditions.overlap)


def _codec_and_wire(job: Job, conditions: Conditions) -> tuple[float, float]:
    """Of the job's plan."""
    layers = defaultdict(dict)
    for name, gradient in job.gradients().items():
        layers[str(job.compression.plan[name])][name] = gradient.numpy()
    codec = payload = 0.0
    for level, gradients in layers.items():
        timing = time_levels(gradients, [level])[0]
        codec += step_time.codec_seconds(level, timing.encode_s, timing.decode_s, conditions.ranks)
        payload += timing.payload_bytes
    buckets = len(conditions.bucket_bytes)
    collectives = max(
        step_time.collectives_of(level, buckets, conditions.ranks) for level in layers
    )
    return codec, conditions.wire(payload, collectives)


def all_reduce_bandwidth() -> float:
    """Bytes a second that a rank sends in a large all_reduce, at its best. Collective."""
    tensor = torch.zeros(_REDUCED_ELEMENTS)
    seconds = []
    for _ in range(_REPETITIONS):
        dist.barrier()
        begin = time.perf_counter()
        dist.all_reduce(tensor)
        seconds.append(time.perf_counter() - begin)
    ranks = dist.get_world_size()
    return 2 * (ranks - 1) / ranks * 4 * _REDUCED_ELEMENTS / min(seconds)


def fp16_codec_seconds(elements: Sequence[int]) -> float:
    """To cast buckets as `fp16_compress_hook` does, there and back."""
    buckets = [torch.ones(count) for count in elements]
    seconds = []
    for _ in range(_REPETITIONS):
        begin = time.perf_counter()
        for bucket in buckets:
            bucket.copy_(bucket.to(torch.float16).div_(2))
        seconds.append(time.perf_counter() - begin)
    return median(seconds)
