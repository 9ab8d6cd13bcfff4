"""FSDP2 with two replicas of two shards each: the averages between the replicas are what a dense
all-reduce gives, error feedback telescopes, replicas agree bit for bit, wrong use is refused."""

import shutil
import tempfile

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from common import process_group
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Shard
from torch.utils.checkpoint import checkpoint

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


def average_by_hand(model, replicas):
    """By a plain all-reduce in the hook."""

    def average(gradients):
        dist.all_reduce(gradients, group=replicas)
        gradients /= dist.get_world_size(replicas)

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_all_reduce_hook(average)


def train_by_hand(mesh, replicas, rank):
    model = sharded_model(mesh)
    average_by_hand(model, replicas)
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
    begin, end = compression._begin, compression._end
    applied, truth = {}, {}

    def add_to(sums, group, values):
        for layer in group.layers:
            own = values[layer.offset :][: layer.shape.numel()].view(layer.shape)
            sums[layer.name] = sums.get(layer.name, 0) + own.double()

    def recording_begin(group, gradients):
        add_to(truth, group, mean_over(replicas, gradients))
        begin(group, gradients)

    def recording_end(problem):
        averaged = end(problem)
        for group, averages in averaged.values():
            add_to(applied, group, averages)
        return averaged

    compression._begin, compression._end = recording_begin, recording_end
    parameters = train(model, rank)
    shard = f" (shard {dist.get_rank(mesh.get_group()) + 1} of 2)"
    assert set(truth) == {f"{i}.{what}{shard}" for i in (0, 2, 4) for what in ("weight", "bias")}
    assert compression.stats()["steps"] == STEPS
    kept_something = False
    for name, layer in compression.state_dict()["layers"].items():
        kept = layer["residual"] if layer["residual"].numel() else torch.zeros_like(applied[name])
        left = applied[name] + mean_over(replicas, kept) - truth[name]
        assert left.abs().max() < 1e-4 * truth[name].abs().max(), f"{spelling}, {name}"
        kept_something |= bool(kept.any())
    assert kept_something, f"{spelling}: nothing was compressed"
    assert_replicas_agree(replicas, parameters, spelling)


def assert_replicas_agree(replicas, parameters, what):
    for parameter in parameters:
        everybody = [torch.empty_like(parameter) for _ in range(2)]
        dist.all_gather(everybody, parameter, group=replicas)
        assert torch.equal(*everybody), f"{what}: replicas differ"


def of_all_ranks(value):
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def check_overflow(mesh, replicas, rank):
    """An infinity in one shard of one replica: all four ranks lose the same step."""
    for victim in range(4):
        model = sharded_model(mesh)
        policy = lgreco.LGreCo(start=3, every=3, window=2)
        compression = lgreco.compress_replicas(
            model, lgreco.Quantize(4), policy, replicate_group=replicas
        )
        begin = compression._begin
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        generator = torch.Generator().manual_seed(1 + rank)
        for step in range(8):

            def poisoned(group, gradients, begin=begin, poison=step == 4 and rank == victim):
                if poison and group.name == "2":
                    gradients[3] = float("inf")
                begin(group, gradients)

            compression._begin = poisoned
            optimizer.zero_grad()
            x = torch.randn(16, 75, generator=generator)
            (model(x) - x[:, :67]).square().mean().backward()
            finite = all(p.grad.to_local().isfinite().all() for p in model.parameters())
            assert finite == (step != 4), f"rank {rank}, step {step}, victim {victim}"
            if finite:
                optimizer.step()
        stats = compression.stats()
        seen = (stats["steps"], stats["overflow_steps"], stats["plans"], compression.plan.version)
        assert of_all_ranks(seen) == [seen] * 4 and seen[:3] == (7, 1, 2), seen
        levels = of_all_ranks([str(level) for level in compression.plan.values()])
        assert levels[rank] == levels[(rank + 2) % 4], levels
        assert_replicas_agree(replicas, [p.to_local() for p in model.parameters()], victim)


def check_what_fsdp_does(mesh, replicas, rank):
    """Passes that accumulate, divide by something else, reduce in fp16, reach some groups only."""

    def run(compressed, change, dtype):
        model = sharded_model(mesh, mp_policy=MixedPrecisionPolicy(reduce_dtype=dtype))
        change(model)
        if compressed:
            compression = lgreco.compress_replicas(
                model, lgreco.Dense(), replicate_group=replicas, start=100
            )
        else:
            average_by_hand(model, replicas)
        generator = torch.Generator().manual_seed(1 + rank)
        for _ in range(2):
            x = torch.randn(16, 75, generator=generator)
            (model(x) - x[:, :67]).square().mean().backward()
        model[4](torch.randn(2, 131, generator=generator)).square().mean().backward()
        if compressed:
            assert compression.stats()["steps"] == 3
        return [p.grad.to_local() for p in model.parameters()]

    def no_change(model):
        pass

    def divide(model):
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(6.0)

    for change, dtype, tolerance in (
        (no_change, torch.float32, 1e-6),
        (no_change, torch.float16, 2e-3),
        (divide, torch.float16, 2e-3),
    ):
        expected = run(False, change, dtype)
        for got, wanted in zip(run(True, change, dtype), expected, strict=True):
            assert torch.allclose(got, wanted, rtol=tolerance, atol=tolerance * 0.1), (
                change, dtype, (got - wanted).abs().max(),
            )  # fmt: skip


def check_plans(mesh, replicas, rank):
    model = sharded_model(mesh)
    policy = lgreco.LGreCo(start=4, every=4, window=2)
    compression = lgreco.compress_replicas(
        model, lgreco.Quantize(4), policy, replicate_group=replicas
    )
    train(model, rank, steps=9)
    assert compression.stats()["plans"] == 2, compression.stats()
    assert compression.stats()["plan_fallbacks"] == 0, compression.stats()
    plan, state = compression.plan, compression.state_dict()
    numbers = (plan.bytes, plan.budget, plan.error)
    assert of_all_ranks(numbers) == [numbers] * 4, "one budget for all shards"
    train(model, rank, steps=4)
    assert compression.stats()["plans"] == 3, compression.stats()
    compression.load_state_dict(state, step=9)
    assert compression.plan == plan
    train(model, rank, steps=1)
    assert compression.stats()["steps"] == 10, compression.stats()

    model = sharded_model(mesh)
    fixed = lgreco.Fixed({"0.weight": "quantize:2", "4.*": "topk:0.1"})
    compression = lgreco.compress_replicas(model, "quantize:4", fixed, replicate_group=replicas)
    levels = {name.partition(" ")[0]: str(level) for name, level in compression.plan.items()}
    assert levels == {
        "0.weight": str(lgreco.Quantize(2)), "0.bias": "dense",
        "2.weight": str(lgreco.Quantize(4)), "2.bias": "dense",
        "4.weight": str(lgreco.TopK(0.1)), "4.bias": "dense",
    }, levels  # fmt: skip


def check_bf16(mesh, replicas, rank):
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.bfloat16)
    model = sharded_model(mesh, mp_policy=policy)
    compression = lgreco.compress_replicas(model, lgreco.Quantize(4), replicate_group=replicas)
    assert all(p.isfinite().all() for p in train(model, rank))
    assert compression.stats()["steps"] == STEPS


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
        return lgreco.compress_replicas(
            model, method, *policy, replicate_group=replicas, **settings
        )

    refused(lambda: compress(nn.Linear(3, 3)), "shard it first")
    refused(lambda: compress(sharded_model(mesh)), "leave replicate_group away")
    one_dimension = sharded_model(mesh["shard"])
    refused(lambda: lgreco.compress(one_dimension, "quantize:4"), "replicate_group=...")
    refused(lambda: lgreco.compress_replicas(one_dimension, "quantize:4"), "a 2-D mesh of replicas")
    mixed = nn.Sequential(fully_shard(nn.Linear(3, 3), mesh=mesh), nn.Linear(3, 3))
    mixed = fully_shard(mixed, mesh=mesh["shard"])
    refused(lambda: lgreco.compress(mixed, "quantize:4"), "have different replicas")
    blocks = nn.Sequential(*(fully_shard(nn.Linear(3, 3), mesh=mesh) for _ in range(2)))
    refused(lambda: lgreco.compress(blocks, "quantize:4"), "shard the root of an FSDP2 model")
    model = sharded_model(mesh["shard"])
    refused(lambda: compress(model, "lgreco"), "must be an lgreco policy")
    refused(lambda: compress(model, start=None), "start must be a whole number")
    compress(model)
    refused(lambda: compress(model), "already has")
    frozen = sharded_model(mesh["shard"]).requires_grad_(False)
    refused(lambda: compress(frozen, lgreco.LGreCo()), "no parameter of the model requires")
    hooked = sharded_model(mesh["shard"])
    next(hooked.parameters()).register_post_accumulate_grad_hook(lambda _: None)
    refused(lambda: compress(hooked), "a hook on its gradient")


def backward_with_a_problem(model):
    """The message of what all ranks must get."""
    try:
        model(torch.ones(2, 75)).sum().backward()
    except lgreco.ConfigError as error:
        return str(error).partition("[fsdp]")[2]
    raise AssertionError("not refused")


def check_problems_of_some_ranks(mesh, replicas, rank):
    """A pass that some rank refuses fails with the same error on all, and the next one works."""
    model = sharded_model(mesh)
    compression = lgreco.compress_replicas(model, lgreco.Quantize(4), replicate_group=replicas)
    weight = model[2].weight
    handle = rank == 1 and weight.register_post_accumulate_grad_hook(lambda _: None)
    message = backward_with_a_problem(model)
    assert "a hook on its gradient" in message and set(of_all_ranks(message)) == {message}, message
    if handle:
        handle.remove()
    model.zero_grad()
    model(torch.ones(2, 75)).sum().backward()
    if rank < 2:  # of one replica: its shards reduce alike
        model[0].bias.requires_grad_(False)
    message = backward_with_a_problem(model)
    assert "was not used" in message and set(of_all_ranks(message)) == {message}, message
    assert compression.stats()["steps"] == 1


class Checkpointed(nn.Module):
    """Its second layer is computed again in the backward pass."""

    def __init__(self, layers, use_reentrant):
        super().__init__()
        self.layers = layers
        self.use_reentrant = use_reentrant

    def forward(self, x):
        x = self.layers[1](self.layers[0](x))
        x = checkpoint(self.layers[2], x, use_reentrant=self.use_reentrant)
        return self.layers[4](self.layers[3](x))


def check_checkpoints(mesh, replicas):
    """A backward pass inside of another one is refused, and is no end of that one."""
    for use_reentrant in (False, True):
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Linear(75, 151), nn.ReLU(), nn.Linear(151, 131), nn.Tanh(), nn.Linear(131, 67)
        )
        for layer in layers:
            if isinstance(layer, nn.Linear):
                fully_shard(layer, mesh=mesh)
        model = fully_shard(Checkpointed(layers, use_reentrant), mesh=mesh)
        compression = lgreco.compress_replicas(model, lgreco.Quantize(4), replicate_group=replicas)
        loss = model(torch.ones(2, 75)).sum()
        if use_reentrant:
            refused(loss.backward, "use_reentrant=False")
        else:
            loss.backward()
        assert compression.stats()["steps"] == (0 if use_reentrant else 1)


def check_low_rank(mesh, replicas, rank):
    """Shards of matrices are matrices, of the columns that the parameter has."""
    model = sharded_model(mesh["shard"])
    compression = lgreco.compress_replicas(model, "low_rank:4", replicate_group=replicas)
    levels = {name.partition(" ")[0]: str(level) for name, level in compression.plan.items()}
    low_rank = str(lgreco.PowerSGD(4))
    assert [levels[f"{i}.weight"] for i in (0, 2, 4)] == [low_rank] * 3, levels
    train(model, rank)
    stats = compression.stats()
    rows = [76, 66, 34] if rank % 2 == 0 else [75, 65, 33]
    columns = [75, 151, 131]
    sent = 4 * (sum(4 * (n + m) for n, m in zip(rows, columns, strict=True)) + sum(rows))
    assert compression.plan.bytes < 0.2 * 4 * sum(p.numel() for p in model.parameters())
    # Of two ranks each sends all of its factors, and vectors as they are.
    sent_by_tcp = 340 * stats["messages_sent"]
    assert sent * STEPS < stats["bytes_sent"] - sent_by_tcp < 1.2 * sent * STEPS + 20_000, stats
    assert_replicas_agree(replicas, [p.to_local() for p in model.parameters()], "low rank")


def check_shards_of_any_shape(mesh, replicas, rank):
    """Shards without an element, of columns, of convolutions; and parameters that are frozen."""

    def run(compress):
        torch.manual_seed(0)
        layers = [
            nn.Unflatten(1, (1, 75)), nn.Conv1d(1, 3, 6), nn.Flatten(), nn.Linear(210, 90),
            nn.Tanh(), nn.Linear(90, 68), nn.Linear(68, 1), nn.Linear(1, 67),
        ]  # fmt: skip
        model = nn.Sequential(*layers)
        model[5].bias.requires_grad_(False)
        columns = {model[3].weight: Shard(1)}
        for part in (model[1], model[3], model[6], model):
            fully_shard(part, mesh=mesh["shard"], shard_placement_fn=columns.get)
        compression = compress(model)
        return model, compression, train(model, rank, steps=3)

    _, _, expected = run(lambda model: average_by_hand(model, replicas))
    _, _, got = run(lambda m: lgreco.compress_replicas(m, "dense", replicate_group=replicas))
    for a, b in zip(got, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-6), (a - b).abs().max()
    model, compression, got = run(
        lambda m: lgreco.compress_replicas(m, "low_rank:1", replicate_group=replicas)
    )
    own = compression.state_dict()["layers"]
    names = {name.partition(" (")[0]: layer for name, layer in own.items()}
    assert set(names) == {n for n, p in model.named_parameters() if p.requires_grad}
    for name, parameter in model.named_parameters():
        residual = names[name]["residual"] if parameter.requires_grad else torch.zeros(0)
        if residual.numel():
            assert residual.shape == parameter.to_local().shape, name
    if rank % 2:
        assert model[6].weight.to_local().numel() == 0
    assert_replicas_agree(replicas, got, "shards of any shape")


def check_resume(mesh, replicas, rank):
    """A run that is saved and loaded goes on bit for bit."""

    def start():
        model = sharded_model(mesh["shard"])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        policy = lgreco.LGreCo(start=3, every=3, window=2)
        return model, optimizer, lgreco.compress_replicas(
            model, "low_rank:2", policy, replicate_group=replicas
        )  # fmt: skip

    def steps(model, optimizer, some):
        for step in some:
            generator = torch.Generator().manual_seed(10 * step + rank)
            x = torch.randn(16, 75, generator=generator)
            optimizer.zero_grad()
            (model(x) - x[:, :67]).square().mean().backward()
            optimizer.step()

    model, optimizer, compression = start()
    steps(model, optimizer, range(5))
    weights = [p.to_local().clone() for p in model.parameters()]
    state = compression.state_dict()
    steps(model, optimizer, range(5, 9))
    again, optimizer, compression = start()
    with torch.no_grad():
        for parameter, saved in zip(again.parameters(), weights, strict=True):
            parameter.to_local().copy_(saved)
    compression.load_state_dict(state, step=5)
    steps(again, optimizer, range(5, 9))
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a.to_local(), b.to_local())


def check_replicas_that_differ(mesh, replicas, rank):
    """One element of one shard of one replica: all ranks are told, by the same words."""
    for victim in (1, 3):
        model = sharded_model(mesh["shard"])
        if rank == victim:
            with torch.no_grad():
                model[2].weight.to_local()[3, 5] += 1e-6
        try:
            lgreco.compress_replicas(model, "quantize:4", replicate_group=replicas)
        except lgreco.MismatchError as error:
            message = str(error)
        else:
            raise AssertionError("not refused")
        assert "'2.weight' of rank 3 is not that of rank 1" in message, message
        assert of_all_ranks(message) == [message] * 4


def check_mesh_of_replicas(mesh, rank):
    """What FSDP would average itself is compressed instead; with the averages that it makes."""

    def run(compressed, change=lambda module: None, dtype=torch.float32, wrapped=lambda m: m):
        model = sharded_model(mesh, mp_policy=MixedPrecisionPolicy(reduce_dtype=dtype))
        for module in model.modules():
            if isinstance(module, FSDPModule):
                change(module)
        compression = lgreco.compress(wrapped(model), compressed) if compressed else None
        parameters = train(model, rank, steps=4)
        gradients = [parameter.grad.to_local() for parameter in model.parameters()]
        return parameters, gradients, compression

    def divide(module):
        module.set_gradient_divide_factor(6.0)

    for change, dtype, tolerance in (
        (lambda module: None, torch.float32, 1e-5),
        (lambda module: None, torch.float16, 2e-3),
        (divide, torch.float16, 2e-3),  # Gloo cannot multiply before it adds
    ):
        expected, gradients, _ = run(None, change, dtype)
        got, averages, compression = run("dense", change, dtype)
        assert compression.stats()["steps"] == 4
        for a, b in zip([*got, *averages], [*expected, *gradients], strict=True):
            assert (a - b).abs().max() <= tolerance * b.abs().max(), (change, dtype)
    for wrapped in (lambda m: m, nn.Sequential, lambda m: torch.compile(m, backend="eager")):
        parameters, _, compression = run("low_rank:2", wrapped=wrapped)
        assert {name.partition(" ")[0] for name in compression.plan} == {
            f"{i}.{what}" for i in (0, 2, 4) for what in ("weight", "bias")
        }
        stats = compression.stats()
        assert stats["steps"] == 4 and stats["ratio"] > 3, stats
        assert_replicas_agree(mesh.get_group("replicate"), parameters, "2-D mesh")


class Scale:
    """As a GradScaler has it."""

    scale = 1024.0

    def get_scale(self):
        return self.scale


def check_before_each_pass(mesh, replicas):
    """The loss's scale is read before a forward pass."""
    model = sharded_model(mesh)
    scaler = Scale()
    compression = lgreco.compress_replicas(
        model, lgreco.Quantize(4), replicate_group=replicas, grad_scaler=scaler
    )
    for scale in (1024.0, 512.0):
        scaler.scale = scale
        y = model(torch.ones(2, 75))
        assert compression._grad_scale == scale
        y.sum().mul(scale).backward()


def check_states(mesh, replicas, rank):
    """A portable state has all shards, and is the same on every rank; a distributed checkpoint
    gives each rank its own back."""
    model = sharded_model(mesh)
    compression = lgreco.compress_replicas(model, lgreco.Quantize(2), replicate_group=replicas)
    train(model, rank)
    own, portable = compression.state_dict(), compression.portable_state_dict()
    assert of_all_ranks(portable["checksum"]) == [portable["checksum"]] * 4
    names = {name for layers in of_all_ranks(list(own["layers"])) for name in layers}
    assert set(portable["layers"]) == names and len(names) > len(own["layers"])
    for name, layer in own["layers"].items():
        mean = mean_over(replicas, layer["residual"]).float()
        assert torch.equal(portable["layers"][name]["residual"], mean), name

    folder = of_all_ranks(tempfile.mkdtemp() if rank == 0 else None)[0]
    dcp.save({"lgreco": lgreco.DistributedState(compression)}, checkpoint_id=folder)
    train(model, rank, 2)
    dcp.load({"lgreco": lgreco.DistributedState(compression)}, checkpoint_id=folder)
    assert compression.state_dict()["checksum"] == own["checksum"]
    compression.load_state_dict(portable)
    for name, layer in compression.state_dict()["layers"].items():
        assert torch.equal(layer["residual"], portable["layers"][name]["residual"]), name
    train(model, rank, 2)
    if rank == 0:
        shutil.rmtree(folder)


def fail(module, gradients):
    raise ZeroDivisionError


def interrupted_pass(model):
    """An exception ends it before the gradients of the first layer."""
    handle = model[0].register_full_backward_pre_hook(fail)
    try:
        model(torch.ones(2, 75)).sum().backward()
    finally:
        handle.remove()
        model._get_fsdp_state()._reset_iter_state()
        model.zero_grad()


def check_pauses(mesh, replicas):
    """The outermost block counts, and one that an exception ends is no longer than its pass."""
    model = sharded_model(mesh)
    compression = lgreco.compress_replicas(model, lgreco.Quantize(4), replicate_group=replicas)

    def steps_after_a_pass():
        model.zero_grad()
        model(torch.ones(2, 75)).sum().backward()
        return compression.stats()["steps"]

    with compression.paused():
        with compression.paused():
            assert steps_after_a_pass() == 0
        assert steps_after_a_pass() == 0
    assert steps_after_a_pass() == 1
    try:
        with compression.paused():
            interrupted_pass(model)
    except ZeroDivisionError:
        pass
    assert steps_after_a_pass() == 2


def check_an_interrupted_pass(mesh, replicas):
    """What was begun in it is no part of the next."""
    model = sharded_model(mesh)
    compression = lgreco.compress_replicas(model, lgreco.Quantize(4), replicate_group=replicas)
    try:
        interrupted_pass(model)
    except ZeroDivisionError:
        pass
    else:
        raise AssertionError("nothing was raised")
    model(torch.ones(2, 75)).sum().backward()
    stats = compression.stats()
    assert (stats["steps"], stats["failed_steps"]) == (1, 1), stats


with process_group() as (rank, size):
    mesh = init_device_mesh("cpu", (2, size // 2), mesh_dim_names=("replicate", "shard"))
    replicas = mesh.get_group("replicate")
    check_dense(mesh["shard"], replicas, rank)
    for spelling in ("quantize:4", "topk:0.05", "low_rank:2"):
        check_error_feedback(mesh["shard"], replicas, rank, spelling)
    check_low_rank(mesh, replicas, rank)
    check_shards_of_any_shape(mesh, replicas, rank)
    check_resume(mesh, replicas, rank)
    check_replicas_that_differ(mesh, replicas, rank)
    check_mesh_of_replicas(mesh, rank)
    check_plans(mesh["shard"], replicas, rank)
    check_bf16(mesh["shard"], replicas, rank)
    check_overflow(mesh["shard"], replicas, rank)
    check_what_fsdp_does(mesh["shard"], replicas, rank)
    check_an_interrupted_pass(mesh["shard"], replicas)
    check_pauses(mesh["shard"], replicas)
    check_states(mesh["shard"], replicas, rank)
    check_checkpoints(mesh["shard"], replicas)
    check_before_each_pass(mesh["shard"], replicas)
    check_problems_of_some_ranks(mesh["shard"], replicas, rank)
    check_wrong_use(mesh, replicas)
    if rank == 0:
        print("replicas agree")
