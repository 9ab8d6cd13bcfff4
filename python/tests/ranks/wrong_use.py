"""Every wrong use is an lgreco.ConfigError that says what to do, before any communication."""

import inspect
from unittest import mock

import torch
import torch.distributed as dist
from common import process_group, small_model
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

import lgreco
from lgreco import compression as compression_module


def expect(message, call):
    """Before the other ranks are asked for anything, such as a process group."""
    with mock.patch.object(compression_module, "own_groups", side_effect=AssertionError("asked")):
        try:
            call()
        except lgreco.ConfigError as error:
            assert message in str(error), f"{message!r} not in {error}"
            return
    raise AssertionError(f"no error with {message!r}")


def resized(tensor):
    tensor.untyped_storage().resize_(0)
    return tensor


def check_tensors_without_memory(aggregator):
    """Neither at registration nor later is memory read that is not there."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    with FakeTensorMode():
        fake = torch.zeros(4)
    homeless = {
        "to_local()": distribute_tensor(torch.zeros(4), mesh, [Replicate()]),
        "no memory of its own": fake,
        "is on meta": torch.zeros(4, device="meta"),
        "a resized storage": resized(torch.zeros(4)),
        "plain tensor": torch._efficientzerotensor(4),
    }
    for message, tensor in homeless.items():
        expect(message, lambda t=tensor: lgreco.Aggregator({"a": t}, lgreco.Dense()))
        expect(message, lambda t=tensor: aggregator.average_({"a": t}))
    expect("share memory", lambda: aggregator.average_({"a": torch.zeros(1).expand(4)}))

    model = nn.Linear(64, 64)
    ddp = DistributedDataParallel(model)
    resized(model.weight.data)
    expect("layer 'weight' has no memory", lambda: lgreco.compress(ddp, lgreco.Dense()))


def check_unknown_settings(ddp):
    for call in (
        lambda: lgreco.compress(ddp, lgreco.Dense(), sead=3),
        lambda: lgreco.Aggregator({"a": (4,)}, lgreco.Dense(), sead=3),
        lambda: lgreco.compress_replicas(ddp, lgreco.Dense(), replicate_group=None, sead=3),
    ):
        try:
            call()
        except TypeError as error:
            assert "'sead', but 'seed'" in str(error), error
        else:
            raise AssertionError("took a setting that does not exist")
    for front_end in (lgreco.compress, lgreco.Aggregator, lgreco.compress_replicas):
        shown = inspect.signature(front_end).parameters
        assert shown["residual"].default == "fp32" and shown["timeout"].default is None
    assert "for half the memory" in lgreco.compress.__doc__


NOT_WHOLE = [
    ("seed", -1), ("seed", 1.5), ("seed", None), ("seed", 2**64), ("start", 1e3),
    ("drift_check_every", "10"), ("threads", 1.5), ("threads", 0), ("lanes", 1.0),
]  # fmt: skip
dense = lgreco.Dense()
try:
    lgreco.Aggregator({"a": (4,)}, dense)
    raise AssertionError("no process group, and no error")
except lgreco.ConfigError as error:
    assert "init_process_group" in str(error), error

with process_group() as (rank, size):
    ddp = DistributedDataParallel(small_model())
    expect("wrap it first", lambda: lgreco.compress(small_model(), dense))
    expect("or its spelling", lambda: lgreco.compress(ddp, 4))
    expect("rank 0 is out of range", lambda: lgreco.compress(ddp, "low_rank:0"))
    expect("must be an lgreco policy", lambda: lgreco.compress(ddp, dense, "lgreco"))
    expect("rank 0 is out of range", lambda: lgreco.compress(ddp, lgreco.PowerSGD(rank=0)))
    expect("timeout", lambda: lgreco.compress(ddp, dense, timeout=0))
    for name, value in NOT_WHOLE:
        message = f"{name} must be a whole number"
        expect(message, lambda n=name, v=value: lgreco.compress(ddp, dense, **{n: v}))
    expect("lanes is 3", lambda: lgreco.compress(ddp, dense, lanes=3))
    expect("timeout", lambda: lgreco.compress(ddp, dense, timeout="20"))
    expect("layer 'a' is 4; give", lambda: lgreco.Aggregator({"a": 4}, dense))
    expect("layer 'a': the shape: a dimension", lambda: lgreco.Aggregator({"a": (4, -1)}, dense))
    expect("must map names to", lambda: lgreco.Aggregator([(4,)], dense))
    expect(
        "matches no layer",
        lambda: lgreco.compress(ddp, dense, lgreco.Fixed({"nothing": lgreco.Dense()})),
    )
    lgreco.compress(ddp, dense)
    expect("already has a communication hook", lambda: lgreco.compress(ddp, dense))

    hooked = DistributedDataParallel(small_model())
    hooked.register_comm_hook(None, lambda state, bucket: bucket.buffer())
    expect("already has a communication hook", lambda: lgreco.compress(hooked, dense))

    double = DistributedDataParallel(nn.Linear(4, 4).double())
    expect("layer 'weight' has dtype Double", lambda: lgreco.compress(double, dense))
    sparse = DistributedDataParallel(nn.Sequential(nn.Embedding(10, 4, sparse=True)))
    expect("sparse=False", lambda: lgreco.compress(sparse, dense))

    aggregator = lgreco.Aggregator({"a": (4,)}, dense)
    expect("no registered layer", lambda: aggregator.average_({"b": torch.zeros(4)}))
    expect("another shape", lambda: aggregator.average_({"a": torch.zeros(5)}))
    values = torch.full((4,), float(rank))
    aggregator.average_({"a": values})
    assert torch.equal(values, torch.full((4,), (size - 1) / 2)), values
    check_tensors_without_memory(aggregator)
    check_unknown_settings(ddp)
    dist.barrier()
    if rank == 0:
        print("wrong use is refused")
