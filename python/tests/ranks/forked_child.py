"""A process that compresses forks. The child can use none of it, and may drop all of it and end in
any way; the parent trains on as if nothing had happened."""

import gc
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from common import BUFFERS_STAY, assert_same_on_all_ranks, batch, process_group, small_model
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

import lgreco
from lgreco.process_groups import own_groups

LONGEST = 30  # seconds that a child may take


def end_of(child: int) -> int:
    """The exit code of a child; one that takes too long is killed."""
    limit = time.monotonic() + LONGEST
    while time.monotonic() < limit:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("a child hangs")


def in_child(body: Callable[[], None], leave: Callable[[int], None] = os._exit) -> None:
    """Run `body` in a forked child, which must end well."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            body()
        except BaseException as error:
            print(f"in the child: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
        leave(0)
    code = end_of(child)
    assert code == 0, f"a child ended with {code}"


def refuse(call: Callable[[], object]) -> None:
    try:
        call()
    except lgreco.ConfigError as error:
        assert "in another process" in str(error), error
        return
    raise AssertionError("not refused in a forked child")


class Fold:
    """A model that trains compressed. Its buffers are not synchronised: its gradients are all that
    it communicates."""

    def __init__(self) -> None:
        self.ddp = DistributedDataParallel(small_model(), bucket_cap_mb=0.1, **BUFFERS_STAY)
        self.compression = lgreco.compress(self.ddp, lgreco.PowerSGD(rank=2, min_ratio=1))

    def step(self, number: int) -> None:
        x, y = batch(dist.get_rank(), number)
        functional.cross_entropy(self.ddp(x), y).backward()


def check_smallest_case() -> None:
    average = lgreco.Aggregator({"a": (64, 96)}, lgreco.Quantize(bits=4))
    average.average_({"a": torch.randn(64, 96)})

    def drop() -> None:
        nonlocal average
        del average
        gc.collect()

    in_child(drop, leave=sys.exit)
    in_child(gc.collect, leave=sys.exit)
    in_child(drop)
    average.average_({"a": torch.randn(64, 96)})


def check_calls_are_refused() -> None:
    average = lgreco.Aggregator({"a": (64, 96)}, lgreco.Cast("bf16"))
    tensors = {"a": torch.ones(64, 96)}
    state = average.state_dict()

    def trace() -> None:
        with average.trace("trace.json"):
            pass

    def call_all() -> None:
        refuse(lambda: average.average_(tensors))
        refuse(lambda: average.plan)
        refuse(average.stats)
        refuse(lambda: average.stats(wait=False))
        refuse(lambda: average.plan_version)
        assert "of another process" in repr(average)
        refuse(average.memory)
        refuse(average.state_dict)
        refuse(lambda: average.load_state_dict(state))
        refuse(lambda: average.set_grad_scale(2.0))
        refuse(lambda: average.on_lr_change(2.0, 1.0))
        refuse(trace)
        # The parent's default group is not the child's, either.
        refuse(lambda: lgreco.Aggregator({"a": (64, 96)}, lgreco.Cast("bf16")))

    in_child(call_all)
    average.average_(tensors)
    assert torch.equal(tensors["a"], torch.ones(64, 96))


def check_backward_in_the_child() -> None:
    fold = Fold()
    for number in range(2):  # DDP regroups its buckets after the first
        fold.step(number)

    def backward() -> None:
        refuse(lambda: fold.step(2))

    in_child(backward)
    fold.step(2)
    assert fold.compression.stats()["steps"] == 3
    assert_same_on_all_ranks([p.grad for p in fold.ddp.parameters()], "after a fork")


def check_multiprocessing() -> None:
    fold = Fold()
    fold.step(0)
    child = multiprocessing.get_context("fork").Process(target=gc.collect)
    child.start()
    child.join(LONGEST)
    assert child.exitcode == 0, child.exitcode
    fold.step(1)


def check_replicas() -> None:
    mesh = init_device_mesh("cpu", (dist.get_world_size(), 1), mesh_dim_names=("replica", "shard"))
    model = fully_shard(torch.nn.Linear(75, 151), mesh=mesh["shard"])
    held = [lgreco.compress_replicas(
        model, lgreco.Quantize(bits=4), replicate_group=mesh.get_group("replica")
    )]  # fmt: skip

    def train() -> None:
        model(torch.ones(4, 75)).sum().backward()

    def drop() -> None:
        nonlocal model
        refuse(held[0].stats)
        del model
        held.clear()
        gc.collect()

    train()
    in_child(drop)
    train()


def check_groups_that_nobody_has_taken_over() -> None:
    groups = own_groups(None, 2, 10.0).lanes
    groups[0].allreduce([torch.ones(4)]).wait()

    def drop() -> None:
        groups.clear()
        gc.collect()

    in_child(drop)
    total = torch.ones(4)
    groups[0].allreduce([total]).wait()
    assert total[0] == dist.get_world_size()


class CollectsGarbage(Dataset):
    """A worker's garbage collection frees what the fold before has left."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        gc.collect()
        return torch.tensor(index)


def check_cross_validation() -> None:
    """The case that was seen in use: each fold's model ends as garbage in a cycle, which the next
    fold's loader collects in its workers."""
    gc.disable()
    for _ in range(3):
        fold = Fold()
        fold.cycle = fold  # as a trainer with callbacks has
        loader = DataLoader(
            CollectsGarbage(), num_workers=2, multiprocessing_context="fork", timeout=LONGEST
        )
        for number, _ in enumerate(loader):
            fold.step(number)
        assert fold.compression.stats()["steps"] == 4
        del fold
    gc.enable()
    gc.collect()


with process_group() as (rank, size):
    check_smallest_case()
    check_calls_are_refused()
    check_backward_in_the_child()
    check_multiprocessing()
    check_replicas()
    check_groups_that_nobody_has_taken_over()
    check_cross_validation()
    if rank == 0:
        print("children leave it alone")
