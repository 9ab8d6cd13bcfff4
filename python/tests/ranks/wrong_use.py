"""Every wrong use is an lgreco.ConfigError that says what to do, before any communication."""

import torch
import torch.distributed as dist
from common import process_group, small_model
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lgreco


def expect(message, call):
    try:
        call()
    except lgreco.ConfigError as error:
        assert message in str(error), f"{message!r} not in {error}"
        return
    raise AssertionError(f"no error with {message!r}")


NOT_WHOLE = [
    ("seed", -1), ("seed", 1.5), ("seed", None), ("seed", 2**64), ("start", 1e3),
    ("drift_check_every", "10"), ("threads", 1.5), ("threads", 0), ("lanes", 1.0),
]  # fmt: skip
dense = lgreco.Dense()
expect("init_process_group", lambda: lgreco.Aggregator({"a": (4,)}, dense))

with process_group() as (rank, size):
    ddp = DistributedDataParallel(small_model())
    expect("wrap it first", lambda: lgreco.compress(small_model(), dense))
    expect("must be an lgreco method", lambda: lgreco.compress(ddp, "low_rank:4"))
    expect("must be an lgreco policy", lambda: lgreco.compress(ddp, dense, "lgreco"))
    expect("rank 0 is out of range", lambda: lgreco.compress(ddp, lgreco.PowerSGD(rank=0)))
    expect("timeout", lambda: lgreco.compress(ddp, dense, timeout=0))
    for name, value in NOT_WHOLE:
        message = f"{name} must be a whole number"
        expect(message, lambda n=name, v=value: lgreco.compress(ddp, dense, **{n: v}))
    expect("lanes is 3", lambda: lgreco.compress(ddp, dense, lanes=3))
    expect("timeout", lambda: lgreco.compress(ddp, dense, timeout="20"))
    expect("layer 'a' is 4", lambda: lgreco.Aggregator({"a": 4}, dense))
    expect("layer 'a': a length", lambda: lgreco.Aggregator({"a": (4, -1)}, dense))
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
    dist.barrier()
    if rank == 0:
        print("wrong use is refused")
