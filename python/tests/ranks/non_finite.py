"""NaN or infinity on one rank: the layer is non-finite on all ranks, and only it."""

import torch
from common import METHODS, batch, process_group, small_model
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco


def backward(ddp, rank, step):
    ddp.zero_grad()
    x, y = batch(rank, step)
    functional.cross_entropy(ddp(x), y).backward()


with process_group() as (rank, size):
    for spelling in METHODS:
        model = small_model()
        ddp = DistributedDataParallel(model, bucket_cap_mb=0.1)
        compression = lgreco.compress(ddp, lgreco.method(spelling))
        poison = {}

        def poisoned(gradient, poison=poison):
            return gradient + poison.get("value", 0.0)

        model[7].weight.register_hook(poisoned)
        for step in range(3):
            backward(ddp, rank, step)
        for number, value in enumerate((float("nan"), float("inf"), -float("inf")), start=1):
            before = compression.state_dict()["layers"]["7.weight"]
            if rank == size - 1:
                poison["value"] = value
            backward(ddp, rank, 3)
            poison.clear()
            for name, parameter in model.named_parameters():
                finite = bool(torch.isfinite(parameter.grad).all())
                assert finite == (name != "7.weight"), f"{spelling}: {name} with {value}"
            after = compression.state_dict()["layers"]["7.weight"]
            assert torch.equal(before["residual"], after["residual"]), spelling
            assert torch.equal(before["factor"], after["factor"]), spelling
            assert compression.stats()["overflow_steps"] == number
        backward(ddp, rank, 4)
        assert all(torch.isfinite(p.grad).all() for p in model.parameters()), "recovers"
    if rank == 0:
        print("non-finite gradients are seen by all")
