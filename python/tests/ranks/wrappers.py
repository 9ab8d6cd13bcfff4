"""What users hold of a model on two ranks: served as the DDP model in it is, or refused with the
call to make instead."""

import importlib
import warnings

import torch
import torch.distributed as dist
from common import assert_same_on_all_ranks, batch, process_group, small_model
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import lgreco

STEPS = 3
composable_replicate = importlib.import_module("torch.distributed._composable.replicate").replicate
replicate_by_fsdp = importlib.import_module(
    "torch.distributed._composable.replicate_with_fsdp"
).replicate


class FabricModule(nn.Module):
    """As Lightning Fabric's: both the model that the strategy wrapped and the user's are in it."""

    def __init__(self, forward_module, original_module):
        super().__init__()
        self._forward_module = forward_module
        self._original_module = original_module

    def forward(self, x):
        return self._forward_module(x)


def by_fabric(model):
    return FabricModule(DistributedDataParallel(model), model)


def by_accelerate(model):
    """What Accelerate prepares is a DDP model with another forward."""
    ddp = DistributedDataParallel(model)
    forward = ddp.forward
    ddp.forward = lambda *inputs: forward(*inputs)
    return ddp


def compiled(model):
    return torch.compile(model, backend="eager")


def with_a_compiled_layer(model):
    model[7] = compiled(model[7])
    return DistributedDataParallel(model)


def by_mesh(model):
    mesh = init_device_mesh("cpu", (2, 1), mesh_dim_names=("replicate", "shard"))
    fully_shard(model[7], mesh=mesh)
    return fully_shard(model, mesh=mesh)


def by_fsdp_alone(model):
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("replicate",))
    replicate_by_fsdp(model[7], mesh=mesh)
    return replicate_by_fsdp(model, mesh=mesh)


WRAPPERS = {
    "DDP": DistributedDataParallel,
    "compiled DDP": lambda model: compiled(DistributedDataParallel(model)),
    "DDP of a compiled model": lambda model: DistributedDataParallel(compiled(model)),
    "compiled twice": lambda model: compiled(DistributedDataParallel(compiled(model))),
    "a compiled layer": with_a_compiled_layer,
    "Fabric": by_fabric,
    "compiled Fabric": lambda model: compiled(by_fabric(model)),
    "Accelerate": by_accelerate,
    "in a container": lambda model: nn.Sequential(DistributedDataParallel(model), nn.Identity()),
    "composable replicate": composable_replicate,
    "in a container, replicate": lambda model: nn.Sequential(composable_replicate(model)),
    "compiled replicate": lambda model: compiled(composable_replicate(model)),
    "2-D mesh": by_mesh,
    "compiled 2-D mesh": lambda model: compiled(by_mesh(model)),
    "ReplicateModule": by_fsdp_alone,
}


class Scaler:
    """As a GradScaler has it, with a scale for each pass."""

    def __init__(self):
        self.asked = 0

    def get_scale(self):
        self.asked += 1
        return 1024.0


def train(model, rank, scale=1.0):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(STEPS):
        x, y = batch(rank, step)
        optimizer.zero_grad()
        (nn.functional.cross_entropy(model(x), y) * scale).backward()
        for parameter in model.parameters():
            parameter.grad.div_(scale)
        optimizer.step()
    whole = (p.to_local() if isinstance(p, DTensor) else p for p in model.parameters())
    return [p.detach().clone() for p in whole]


def check_served(name, wrap, rank):
    expected = train(DistributedDataParallel(small_model()), rank)
    model = wrap(small_model())
    scaler = Scaler()
    compression = lgreco.compress(model, "dense", grad_scaler=scaler)
    asked = scaler.asked
    for got, wanted in zip(train(model, rank, 1024.0), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5, msg=name)
    assert scaler.asked - asked >= STEPS, f"{name}: the scale was not read before each pass"
    own_names = {parameter for parameter, _ in small_model().named_parameters()}
    assert {layer.partition(" (")[0] for layer in compression.plan} == own_names, name
    assert compression.stats()["steps"] == STEPS, name

    torch._dynamo.reset()
    model = wrap(small_model())
    compression = lgreco.compress(model, "low_rank:2", lgreco.LGreCo(every=2, start=2, window=1))
    assert_same_on_all_ranks(train(model, rank), name)
    stats = compression.stats()
    assert stats["ratio"] > 5 and stats["plans"] == 1, (name, stats)
    state = compression.state_dict()
    compression.load_state_dict(state, step=STEPS)
    torch._dynamo.reset()


def refused(call, reason):
    try:
        call()
    except lgreco.ConfigError as error:
        assert reason in str(error), f"{reason!r} not in {error}"
        return
    raise AssertionError(f"not refused: {reason}")


def check_refused():
    def compress(model):
        return lgreco.compress(model, "quantize:4")

    refused(lambda: compress(small_model()), "wrap it first")
    refused(lambda: compress(compiled(small_model())), "wrap it first")
    refused(lambda: compress("model"), "no torch.nn.Module")
    two = nn.ModuleDict({k: DistributedDataParallel(small_model()) for k in ("G", "D")})
    refused(lambda: compress(two), "2 modules that synchronise gradients: 'G', 'D'")
    refused(lambda: compress(nn.DataParallel(small_model())), "DistributedDataParallel")
    sharded = FullyShardedDataParallel(small_model(), device_id=torch.device("cpu"))
    refused(lambda: compress(sharded), "lgreco.compress_replicas(model, ...)")
    mesh = init_device_mesh("cpu", (2,))
    refused(lambda: compress(fully_shard(small_model(), mesh=mesh)), "replicate_group=...")
    ddp = DistributedDataParallel(small_model())
    compress(ddp)
    refused(lambda: compress(nn.Sequential(ddp)), "already has a communication hook")
    replicated = composable_replicate(small_model())
    compress(replicated)
    refused(lambda: compress(replicated), "already has a communication hook")
    by_fsdp = by_mesh(small_model())
    compress(by_fsdp)
    refused(lambda: compress(by_fsdp), "already has")


def check_ignored():
    """What replicate() leaves out is left alone."""
    model = small_model()
    composable_replicate(model, ignored_modules=[model[3]])
    layers = lgreco.compress(model, "dense").plan
    assert "7.weight" in layers and not any(layer.startswith("3.") for layer in layers), layers


def check_levels_by_spelling():
    def levels(*arguments):
        return dict(lgreco.compress(DistributedDataParallel(small_model()), *arguments).plan)

    assert levels("low_rank:4") == levels(lgreco.PowerSGD(4))
    accordion = lgreco.Accordion("quantize:8", "quantize:4")
    assert levels("dense", accordion)["7.weight"] == lgreco.Quantize(8)
    fixed = lgreco.Fixed({"7.*": "topk:0.01", "10.weight": "dense"})
    of_fixed = levels("quantize:4", fixed)
    assert of_fixed["7.weight"] == lgreco.TopK(0.01), of_fixed
    assert of_fixed["3.weight"] == lgreco.Quantize(4), of_fixed
    aggregator = lgreco.Aggregator({"a": (100, 100)}, "quantize:2")
    assert aggregator.plan["a"] == lgreco.Quantize(2)
    refused(lambda: levels("low_rank:none"), "low_rank")
    refused(lambda: levels(4), "4 is no level")


def warnings_of(steps, make, *arguments, **settings):
    """Of ours, in so many steps."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ddp = DistributedDataParallel(make())
        compression = lgreco.compress(ddp, *arguments, **settings)
        width = next(ddp.parameters()).shape[1]
        for _ in range(steps):
            ddp.zero_grad()
            ddp(torch.randn(4, width)).square().mean().backward()
            with torch.no_grad():
                for parameter in ddp.parameters():
                    parameter -= 0.1 * parameter.grad
    assert compression.stats()["steps"] == steps
    return [str(one.message) for one in caught if "[lgreco]" in str(one.message)]


def check_warnings():
    def small():
        return nn.Sequential(nn.Linear(20, 6), nn.Linear(6, 6))

    def large():
        return nn.Linear(300, 300)

    for arguments in (("low_rank:4",), ("low_rank:4", lgreco.LGreCo())):
        (said,) = warnings_of(30, small, *arguments)
        assert "no layer is compressed: low_rank:4 makes" in said, said
    (said,) = warnings_of(30, small, "low_rank:4", start=5)
    assert "no layer is compressed: low_rank:4 makes" in said, said
    accordion = lgreco.Accordion("low_rank:5", "low_rank:4")
    (said,) = warnings_of(2, small, "dense", accordion)
    assert "no layer is compressed: low_rank:5 makes" in said, said
    for arguments in (("dense",), ("low_rank:4", lgreco.Fixed({"*.weight": "quantize:4"}))):
        assert "no layer" not in "".join(warnings_of(2, small, *arguments)), arguments
    # Fewer values than the messages have bytes of their own.
    (said,) = warnings_of(30, small, "quantize:4")
    assert "bytes were sent in 10 steps, where plain data parallelism" in said, said
    assert warnings_of(30, large, "quantize:4") == []
    said = warnings_of(30, large, "quantize:4", start=10)
    assert said == [], f"dense steps at the start: {said}"


with process_group() as (rank, size):
    for name, wrap in WRAPPERS.items():
        try:
            check_served(name, wrap, rank)
        except Exception as error:
            raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
    check_refused()
    check_ignored()
    check_levels_by_spelling()
    check_warnings()
    dist.barrier()
    if rank == 0:
        print("wrappers agree")
