"""A model that nobody wraps, in a process that trains alone: left as it is, and what is asked of a
compression is answered. Argument: "nothing" is initialised, a "group" of one, one of several was
"forgotten".
"""

import sys
import tempfile
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

import lgreco


def train(model, steps=3):
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 100)).square().mean().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(100, 100), nn.Linear(100, 100))


def check_left_as_it_is(wrap):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = wrap(make())
        policy = lgreco.Accordion("low_rank:4", "low_rank:2", then=lgreco.LGreCo())
        compression = lgreco.compress(model, "low_rank:4", policy, keep_previous=True)
        parameters = train(model)
    said = [str(one.message) for one in caught if "[lgreco]" in str(one.message)]
    assert len(said) == 1 and "trains alone" in said[0], said
    assert all(map(torch.equal, parameters, train(make())))
    assert isinstance(compression, lgreco.Compression)
    assert compression.plan["0.weight"] == lgreco.PowerSGD(4) and len(compression.plan) == 4
    stats = compression.stats()
    assert (stats["steps"], stats["bytes_sent"], stats["ratio"]) == (0, 0, 1.0), stats
    assert set(compression.memory()) == {"residuals", "factors", "staging", "windows"}
    assert compression.micro_batches == 1
    compression.set_grad_scale(2.0)
    compression.on_lr_change(0.1, 0.01)
    assert not compression.discard_last_step()
    compression.reset()
    with compression.paused():
        train(model, 1)
    with tempfile.TemporaryDirectory() as folder, compression.trace(Path(folder) / "trace.json"):
        pass
    state = compression.state_dict()
    assert len(compression.gathered_state_dict()) == 1
    compression.load_state_dict(state, step=0)
    compression.load_state_dict(compression.gathered_state_dict())


case = sys.argv[1]
if case == "group":
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
if case == "forgotten":
    try:
        lgreco.compress(make(), "low_rank:4")
    except lgreco.ConfigError as error:
        assert "wrap it first" in str(error), error
    else:
        raise AssertionError("not refused")
else:
    check_left_as_it_is(lambda model: model)
    check_left_as_it_is(lambda model: torch.compile(model, backend="eager"))
print(f"{case}: as it should be")
