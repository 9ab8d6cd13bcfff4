"""FSDP2 with two replicas of two shards each: the averages between the replicas are what a dense
all-reduce gives, error feedback telescopes, replicas agree bit for bit, wrong use is refused."""

import torch
import torch.distributed as dist
from common import process_group
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

import lgreco

STEPS = 12


def sharded_model(mesh, **arguments):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(75, 151), nn.ReLU(), nn.Linear(151, 131), nn.Tanh(), nn.Linear(131, 67)
    )  # odd sizes: shards are padded
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh, **arguments)
    return fully_shard(model, mesh=mesh, **arguments)


def train(model, rank, steps=STEPS):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(1 + rank)
    for _ in range(steps):
        optimizer.zero_grad()
        x = torch.randn(16, 75, generator=generator)
        (model(x) - x[:, :67]).square().mean().backward()
        optimizer.step()
    return [parameter.to_local().detach() for parameter in model.parameters()]


def mean_over(group, tensor):
    total = tensor.double()
    dist.all_reduce(total, group=group)
    return total / dist.get_world_size(group)


def train_by_hand(mesh, replicas, rank):
    """Averaged by a plain all-reduce in the hook."""

    def average(gradients):
        dist.all_reduce(gradients, group=replicas)
        gradients /= dist.get_world_size(replicas)

    model = sharded_model(mesh)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_all_reduce_hook(average)
    return train(model, rank)


def check_dense(mesh, replicas, rank):
    expected = train_by_hand(mesh, replicas, rank)
    for spelling, tolerance in (("dense", 1e-6), ("cast:bf16", 2e-3)):
        model = sharded_model(mesh)
        lgreco.compress_replicas(model, lgreco.method(spelling), replicate_group=replicas)
        for got, wanted in zip(train(model, rank), expected, strict=True):
            assert torch.allclose(got, wanted, atol=tolerance), (got - wanted).abs().max()


def check_error_feedback(mesh, replicas, rank, spelling):
    model = sharded_model(mesh)
    compression = lgreco.compress_replicas(model, lgreco.method(spelling), replicate_group=replicas)
    average = compression.average_
    applied, truth = {}, {}

    def recorded(tensors):
        for name, gradients in tensors.items():
            truth[name] = truth.get(name, 0) + mean_over(replicas, gradients)
        average(tensors)
        for name, gradients in tensors.items():
            applied[name] = applied.get(name, 0) + gradients.double()

    compression.average_ = recorded
    parameters = train(model, rank)
    assert len(truth) == 3 and compression.stats()["steps"] == 3 * STEPS
    kept_something = False
    for name, layer in compression.state_dict()["layers"].items():
        kept = layer["residual"] if layer["residual"].numel() else torch.zeros_like(applied[name])
        left = applied[name] + mean_over(replicas, kept) - truth[name]
        assert left.abs().max() < 1e-4 * truth[name].abs().max(), f"{spelling}, {name}"
        kept_something |= bool(kept.any())
    assert kept_something, f"{spelling}: nothing was compressed"
    for parameter in parameters:
        everybody = [torch.empty_like(parameter) for _ in range(2)]
        dist.all_gather(everybody, parameter, group=replicas)
        assert torch.equal(*everybody), f"{spelling}: replicas differ"


def check_plans(mesh, replicas, rank):
    model = sharded_model(mesh)
    policy = lgreco.LGreCo(start=4, every=4, window=2)
    compression = lgreco.compress_replicas(
        model, lgreco.Quantize(4), policy, replicate_group=replicas
    )
    train(model, rank, steps=9)
    assert compression.stats()["plans"] == 2, compression.stats()
    assert compression.stats()["plan_fallbacks"] == 0, compression.stats()


def check_bf16(mesh, replicas, rank):
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.bfloat16)
    model = sharded_model(mesh, mp_policy=policy)
    compression = lgreco.compress_replicas(model, lgreco.Quantize(4), replicate_group=replicas)
    assert all(p.isfinite().all() for p in train(model, rank))
    assert compression.stats()["steps"] == 3 * STEPS


def refused(call, reason):
    try:
        call()
    except lgreco.ConfigError as error:
        assert reason in str(error), error
    else:
        raise AssertionError(f"not refused: {reason}")


def check_wrong_use(mesh, replicas):
    def compress(model, *policy, **settings):
        method = lgreco.Quantize(4)
        lgreco.compress_replicas(model, method, *policy, replicate_group=replicas, **settings)

    refused(lambda: compress(nn.Linear(3, 3)), "shard it first")
    refused(lambda: compress(sharded_model(mesh)), "replicated by FSDP itself")
    model = sharded_model(mesh["shard"])
    refused(lambda: compress(model, "lgreco"), "must be an lgreco policy")
    refused(lambda: compress(model, start=None), "start must be a whole number")
    compress(model)
    refused(lambda: compress(model), "already has")
    frozen = sharded_model(mesh["shard"]).requires_grad_(False)
    refused(lambda: compress(frozen, lgreco.LGreCo()), "no parameter of the model requires")
    unused = sharded_model(mesh["shard"])
    compress(unused)
    unused[0].bias.requires_grad_(False)
    refused(lambda: unused(torch.randn(2, 75)).sum().backward(), "was not used")


with process_group() as (rank, size):
    mesh = init_device_mesh("cpu", (2, size // 2), mesh_dim_names=("replicate", "shard"))
    replicas = mesh.get_group("replicate")
    check_dense(mesh["shard"], replicas, rank)
    for spelling in ("quantize:4", "topk:0.05"):
        check_error_feedback(mesh["shard"], replicas, rank, spelling)
    check_plans(mesh["shard"], replicas, rank)
    check_bf16(mesh["shard"], replicas, rank)
    check_wrong_use(mesh, replicas)
    if rank == 0:
        print("replicas agree")
