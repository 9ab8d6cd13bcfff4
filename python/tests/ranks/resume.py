"""A run resumed from files at any step is the run that was never stopped: parameters, plan, state,
bytes. A state that is damaged or of something else is refused, and changes nothing."""

import io
import random
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from common import batch, process_group, small_model
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco

METHODS = {"quantize:4": 40, "low_rank:2:min_ratio=1": 40, "topk:0.02": 9, "cast:bf16": 9}
BUCKET_MB = {"one bucket": 100, "five buckets": 0.1}


class Run:
    def __init__(self, spelling, bucket_mb):
        self.ddp = DistributedDataParallel(small_model(), bucket_cap_mb=bucket_mb)
        self.optimizer = torch.optim.SGD(self.ddp.parameters(), lr=0.05, momentum=0.9)
        policy = lgreco.LGreCo(every=7, start=5, window=3)
        self.compression = lgreco.compress(self.ddp, lgreco.method(spelling), policy, seed=3)
        self.buckets = 1 if bucket_mb > 1 else 5

    def train(self, rank, first, last):
        for step in range(first, last):
            self.optimizer.zero_grad()
            x, y = batch(rank, step)
            functional.cross_entropy(self.ddp(x), y).backward()
            self.optimizer.step()

    def save(self, file):
        parts = (self.ddp.module, self.optimizer, self.compression)
        torch.save([part.state_dict() for part in parts], file)

    def load(self, file):
        model, optimizer, compression = torch.load(file, weights_only=True)
        self.ddp.module.load_state_dict(model)
        self.optimizer.load_state_dict(optimizer)
        self.compression.load_state_dict(compression)

    def end(self):
        """All that must be equal; times are not. Nor is the framing: a new process's first step
        comes as one bucket, so it has fewer messages than the same step had in the old one."""
        state = self.compression.state_dict()
        layers = [v for layer in state["layers"].values() for v in layer.values()]
        counts = {k: v for k, v in state["stats"].items() if not k.endswith("_s")}
        if self.buckets > 1:
            for name in ("bytes_sent", "bytes_received", "messages_sent"):
                del counts[name]
        tensors = [*self.ddp.parameters(), *(v for v in layers if isinstance(v, torch.Tensor))]
        return [t.detach() for t in tensors], self.compression.plan, counts


def check_every_step(rank, spelling, bucket_mb, steps, folder):
    whole = Run(spelling, bucket_mb)
    for step in range(steps):
        whole.save(folder / f"{step}-{rank}.pt")
        whole.train(rank, step, step + 1)
    tensors, *rest = whole.end()
    for step in range(steps):
        resumed = Run(spelling, bucket_mb)
        if step % 10 == 0:
            resumed.train(rank, 50, 52)  # other gradients, and the bucket rebuild
        resumed.load(folder / f"{step}-{rank}.pt")
        resumed.train(rank, step, steps)
        again, *rest_again = resumed.end()
        assert rest == rest_again, f"{spelling}, resumed at {step}: {rest} {rest_again}"
        for a, b in zip(tensors, again, strict=True):
            assert torch.equal(a, b), f"{spelling}, resumed at {step}"
    return whole


def refused(compression, state, what):
    try:
        compression.load_state_dict(state)
    except lgreco.StateError:
        return
    raise AssertionError(f"loaded a state {what}")


def check_refusals(run, rank, size):
    good = run.compression.state_dict()
    before = run.end()
    for change in (
        {"rank": (rank + 1) % size},
        {"size": size + 1},
        {"format": 99},
        {"layers": {}},
        {"step": good["step"] + 1},
        {"plan": {**good["plan"], "levels": {}}},
        {"stats": {}},
        {"checksum": "0" * 16},
    ):
        refused(run.compression, {**good, **change}, f"with {list(change)} changed")
    for nothing in (None, 7, [None], []):
        refused(run.compression, good if rank else nothing, f"that is {nothing} on rank 0")

    after = run.end()
    assert all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))
    assert before[1:] == after[1:], "a refused state changes nothing"


def check_damaged_files(rank):
    """A flipped bit is found, by torch or by us. On a group of one rank, since loading a state is
    collective and torch may refuse other files on other ranks."""
    alone = dist.new_group([rank], use_local_synchronization=True)
    layers = {"a": (64, 96), "b": (33,)}
    aggregator = lgreco.Aggregator(layers, lgreco.Quantize(2), process_group=alone)
    for _ in range(3):
        aggregator.average_({name: torch.randn(shape) for name, shape in layers.items()})
    good = aggregator.state_dict()
    file = io.BytesIO()
    torch.save(good, file)
    data = file.getvalue()
    chance = random.Random(rank)
    for _ in range(300):
        damaged = bytearray(data)
        damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        try:
            state = torch.load(io.BytesIO(bytes(damaged)), weights_only=True)
        except Exception:  # torch's own check of the file; it raises many types
            continue
        try:
            aggregator.load_state_dict(state)
        except lgreco.Error:
            continue
        finally:
            now = aggregator.state_dict()
            assert now["checksum"] == good["checksum"], "damage went through"


with process_group() as (rank, size):
    check_damaged_files(rank)
    for spelling, steps in METHODS.items():
        for bucket_mb in BUCKET_MB.values():
            run = check_every_step(rank, spelling, bucket_mb, steps, Path(sys.argv[1]))
        check_refusals(run, rank, size)
    if rank == 0:
        print("resumed runs are the same runs")
