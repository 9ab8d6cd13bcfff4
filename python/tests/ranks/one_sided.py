"""What one rank alone calls, or is given as an argument: the same error on all ranks within the
timeout, and no abort.

The argument is the case; which cases there are, `one_sided.py list` says.
"""

import sys
import time

import torch
import torch.distributed as dist
from common import process_group
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lgreco

TIMEOUT = 8.0
LOW, HIGH = lgreco.PowerSGD(4), lgreco.PowerSGD(1)
ACCORDION = lgreco.Accordion(low=LOW, high=HIGH, every=4)

Error = lgreco.Error


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(m for _ in range(4) for m in (nn.Linear(96, 96), nn.ReLU())))


class Run:
    """A few steps, then `call` on rank 1 alone, then more steps, one of which must fail."""

    def __init__(self, call, error, method=LOW, policy=None, **settings):
        self.call, self.error = call, error
        self.method, self.policy, self.settings = method, policy, settings

    def __call__(self, rank: int) -> None:
        ddp = DistributedDataParallel(net(), bucket_cap_mb=0.05)
        compression = lgreco.compress(
            ddp, self.method, self.policy, timeout=TIMEOUT, keep_previous=True, **self.settings
        )
        compression.set_grad_scale(1)
        optimizer = torch.optim.SGD(ddp.parameters(), lr=0.01)

        def step() -> None:
            optimizer.zero_grad()
            ddp(torch.randn(8, 96)).square().mean().backward()
            optimizer.step()

        for _ in range(5):
            step()
        dist.barrier()
        began = time.monotonic()
        try:
            if rank == 1:
                self.call(compression)
            for _ in range(3):
                step()
        except Error as error:
            report(rank, error, self.error, began)
            return
        raise AssertionError("nobody noticed")


class Register:
    """A `compress()` in which rank 1 has other arguments, of its own or of DDP."""

    def __init__(self, ddp=None, **settings):
        self.ddp, self.settings = ddp or {}, settings

    def __call__(self, rank: int) -> None:
        ddp = DistributedDataParallel(net(), **(self.ddp if rank == 1 else {}))
        usual = {"method": lgreco.Quantize(bits=4), "timeout": TIMEOUT, "lanes": 1}
        began = time.monotonic()
        try:
            lgreco.compress(ddp, **(usual | (self.settings if rank == 1 else {})))
        except Error as error:
            report(rank, error, lgreco.MismatchError, began)
            return
        raise AssertionError("nobody noticed")


def average_of_other_layers(rank: int) -> None:
    average = lgreco.Aggregator(
        {"a": (64, 96), "b": (9000,)}, lgreco.Quantize(bits=4), timeout=TIMEOUT
    )
    tensors = {"a": torch.ones(64, 96), "b": torch.ones(9000)}
    average.average_(tensors)
    began = time.monotonic()
    wrong = {"b": torch.ones(9001)} if rank == 1 else {"b": torch.ones(9000)}
    try:
        average.average_(wrong)
    except Error as error:
        report(rank, error, lgreco.ConfigError, began)
    # Nobody is hurt, and ranks may give different layers.
    mine = {"a": torch.ones(64, 96)} if rank == 1 else {"b": torch.full((9000,), 2.0)}
    average.average_(mine)


def report(rank: int, error: Error, expected: type[Error], began: float) -> None:
    assert isinstance(error, expected), (rank, type(error), error)
    took = time.monotonic() - began
    assert took < TIMEOUT + 1, took
    messages = [None] * dist.get_world_size()
    dist.all_gather_object(messages, (type(error).__name__, str(error)))
    kinds = {kind for kind, _ in messages}
    assert len(kinds) == 1, messages
    if expected is not lgreco.PeerError:  # which says where each rank was
        assert len(set(messages)) == 1, messages


CASES = {
    "on_lr_change": Run(lambda c: c.on_lr_change(0.1, 0.01), lgreco.MismatchError, LOW, ACCORDION),
    "set_grad_scale": Run(lambda c: c.set_grad_scale(2), lgreco.MismatchError),
    "set_grad_scale under Accordion": Run(
        lambda c: c.set_grad_scale(2), lgreco.MismatchError, LOW, ACCORDION
    ),
    "reset": Run(lambda c: c.reset(), lgreco.MismatchError),
    "discard_last_step": Run(lambda c: c.discard_last_step(), lgreco.MismatchError),
    "paused": Run(lambda c: c._engine.pause(True), lgreco.PeerError),
    "load_state_dict": Run(lambda c: c.load_state_dict(c.state_dict()), lgreco.PeerError),
    "load_state_dict on one lane": Run(
        lambda c: c.load_state_dict(c.state_dict()), lgreco.PeerError, lanes=1
    ),
    "average_": average_of_other_layers,
    "find_unused_parameters": Register({"find_unused_parameters": True}),
    "static_graph": Register({"static_graph": True}),
    "bucket_cap_mb": Register({"bucket_cap_mb": 1}),
    "method": Register(method=lgreco.TopK(density=0.01)),
    "policy": Register(policy=lgreco.LGreCo()),
    "error_feedback": Register(error_feedback=False),
    "residual": Register(residual="bf16"),
    "seed": Register(seed=1),
    "start": Register(start=5),
    "keep_previous": Register(keep_previous=True),
    "drift_check_every": Register(drift_check_every=7),
    "lanes": Register(lanes=2),
}

if __name__ == "__main__":
    if sys.argv[1:] == ["list"]:
        print("\n".join(CASES))
    else:
        with process_group() as (rank, _):
            CASES[sys.argv[1]](rank)
            if rank == 0:
                print("same error everywhere")
