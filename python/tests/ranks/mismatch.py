"""One rank differs: all ranks raise the same error, which names the field, before any step."""

import torch
import torch.distributed as dist
from common import process_group, small_model
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lgreco

REFERENCE = {"method": lgreco.PowerSGD(2), "policy": lgreco.LGreCo(every=50), "seed": 0}
CASES = {
    "method": {"method": lgreco.PowerSGD(3)},
    "policy": {"policy": lgreco.LGreCo(every=60)},
    "seed": {"seed": 1},
    "start": {"start": 10},
    "error_feedback": {"error_feedback": False},
    "residual": {"residual": "bf16"},
    "drift_check_every": {"drift_check_every": 7},
    "lanes": {"lanes": 1},
}


def message_of(call):
    try:
        call()
    except lgreco.MismatchError as error:
        return str(error)
    raise AssertionError("no error")


def check_same_everywhere(message, field):
    messages = [None] * dist.get_world_size()
    dist.all_gather_object(messages, message)
    assert messages == [message] * len(messages), messages
    assert f"differ in {field}: rank 0 has" in message and "rank 1 has" in message, message


with process_group() as (rank, size):
    for field, change in CASES.items():
        settings = {**REFERENCE, **(change if rank == 1 else {})}
        ddp = DistributedDataParallel(small_model())
        message = message_of(lambda ddp=ddp, settings=settings: lgreco.compress(ddp, **settings))
        check_same_everywhere(message, field)

    layers = {"a": (4, 4), "b": (5,)} if rank != 1 else {"a": (4, 4), "c": (5,)}
    message = message_of(lambda: lgreco.Aggregator(layers, lgreco.Dense()))
    check_same_everywhere(message, "layer 1")

    # Parameters that drift apart are found by the comparison of every second step.
    ddp = DistributedDataParallel(nn.Linear(8, 8))
    lgreco.compress(ddp, lgreco.Dense(), drift_check_every=2)
    ddp(torch.ones(1, 8)).sum().backward()
    with torch.no_grad():
        if rank == 2:
            ddp.module.bias[3] += 1e-3
    ddp(torch.ones(1, 8)).sum().backward()
    message = message_of(lambda: ddp(torch.ones(1, 8)).sum().backward())
    assert "layer 'bias' on rank 2" in message, message
    if rank == 0:
        print("ranks that differ are named")
