"""Node first on two nodes of ranks of one machine: what is equal, what is kept, what is refused."""

import contextlib
import os
import sys

import torch
import torch.distributed as dist
from common import METHODS, assert_same_on_all_ranks, batch, process_group, small_model
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco

LOW_RANK = lgreco.method("low_rank:2:min_ratio=1")
RANKS_A_NODE = int(sys.argv[1])


def on_nodes_of(ranks: int) -> None:
    """As torchrun would have started them on machines of so many ranks."""
    os.environ["LOCAL_WORLD_SIZE"] = str(ranks)
    os.environ["LOCAL_RANK"] = str(int(os.environ["RANK"]) % ranks)


def ddp_of(model=None, **arguments):
    return DistributedDataParallel(model or small_model(), bucket_cap_mb=0.1, **arguments)


def step(ddp, rank, number):
    x, y = batch(rank, number)
    ddp.zero_grad()
    functional.cross_entropy(ddp(x.to(next(ddp.parameters()).dtype)).float(), y).backward()
    return [p.grad for p in ddp.parameters()]


def train(ddp, rank, steps, rate=0.05):
    for number in steps:
        gradients = step(ddp, rank, number)
        assert_same_on_all_ranks(gradients, "averages")
        with torch.no_grad():
            for parameter, gradient in zip(ddp.parameters(), gradients, strict=True):
                parameter -= rate * gradient


def everybodys(value):
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def assert_one_error(expected, kind, call):
    """All ranks raise the same."""
    try:
        call()
        error = "no error"
    except kind as raised:
        error = str(raised)
    errors = everybodys(error)
    assert set(errors) == {errors[0]} and expected in errors[0], errors


def same(a, b):
    """Two states, bit for bit, but for their times."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        ignored = {"stats", "checksum"}
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k not in ignored)
    return a == b


def check_methods(rank):
    for method in METHODS:
        ddp = ddp_of()
        compression = lgreco.compress(ddp, lgreco.method(method), drift_check_every=1)
        train(ddp, rank, range(4))
        assert_same_on_all_ranks(list(ddp.parameters()), method)
        assert compression.stats()["steps"] == 4
        names = everybodys(list(compression.plan.levels))
        assert names[0] == names[RANKS_A_NODE], "the owners differ between the nodes"
        owned = sorted(name for one in names[:RANKS_A_NODE] for name in one)
        assert owned == sorted(name for name, _ in ddp.module.named_parameters())
        assert max(map(len, names)) < len(owned), "this is flat"


def check_dense_is_the_mean(rank):
    plain, ddp = ddp_of(), ddp_of()
    lgreco.compress(ddp, lgreco.Dense())
    for number in range(2):
        for expected, mean in zip(step(plain, rank, number), step(ddp, rank, number), strict=True):
            torch.testing.assert_close(mean, expected, rtol=1e-5, atol=1e-7)


def check_ways_to_run_ddp(rank):
    def channels_last():
        return small_model().to(memory_format=torch.channels_last)

    ways = [
        {"gradient_as_bucket_view": True}, {"find_unused_parameters": True},
        {"static_graph": True}, {"model": channels_last()},
        {"model": small_model().to(torch.bfloat16)},
    ]  # fmt: skip
    for way in ways:
        ddp = ddp_of(**way)
        lgreco.compress(ddp, lgreco.Quantize(bits=4), drift_check_every=1)
        train(ddp, rank, range(2))
        with ddp.no_sync() if not ddp.static_graph else contextlib.nullcontext():
            step(ddp, rank, 7)
        train(ddp, rank, range(2, 4))


def check_an_unused_layer(rank):
    """What was not sent of it waits."""

    class Skips(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.skipped, self.skips = (
                torch.nn.Linear(96, 80),
                torch.nn.Linear(80, 80),
                0,
            )

        def forward(self, x):
            return self.used(x) if self.skips else self.skipped(self.used(x))

    torch.manual_seed(0)
    ddp = ddp_of(Skips(), find_unused_parameters=True)
    compression = lgreco.compress(ddp, lgreco.Quantize(bits=4))
    kept = []
    for ddp.module.skips in (0, 1):
        ddp.zero_grad()
        ddp(torch.randn(8, 96)).square().mean().backward()
        kept.append(compression.state_dict()["layers"])
    before, after = ({n: layer["residual"] for n, layer in one.items()} for one in kept)
    changed = {n: not torch.equal(before[n], after[n]) for n in before if before[n].numel()}
    changed = dict(pair for one in everybodys(changed) for pair in one.items())
    assert changed == {"used.weight": True, "skipped.weight": False}, changed


def check_uneven_inputs(rank):
    ddp = ddp_of()
    lgreco.compress(ddp, lgreco.Quantize(bits=4), drift_check_every=1)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.05)
    with ddp.join():
        for number in range(2 + rank):
            step(ddp, rank, number)
            optimizer.step()
    assert_same_on_all_ranks(list(ddp.parameters()), "after Join")


def check_one_plan(rank):
    ddp = ddp_of()
    policy = lgreco.LGreCo(every=3, start=3, window=2)
    compression = lgreco.compress(ddp, lgreco.Quantize(bits=4), policy)
    train(ddp, rank, range(7))
    plan = compression.plan
    assert compression.stats()["plans"] == 2, compression.stats()["plan_failure"]
    sizes = everybodys([e.chosen.bytes for e in plan.estimates.values()])
    assert plan.bytes == sum(sum(one) for one in sizes[:RANKS_A_NODE])
    assert len(set(everybodys((plan.bytes, plan.error, plan.budget, plan.version)))) == 1
    assert plan.error <= plan.budget
    accordion = lgreco.Accordion(low=lgreco.Quantize(bits=8), high=lgreco.Quantize(bits=2), every=2)
    ddp = ddp_of()
    lgreco.compress(ddp, lgreco.Quantize(bits=8), accordion)
    train(ddp, rank, range(6))


def check_overflows(rank):
    for victim in range(dist.get_world_size()):
        ddp = ddp_of()
        compression = lgreco.compress(ddp, lgreco.Quantize(bits=4))
        train(ddp, rank, range(2))
        before = compression.state_dict()
        x, y = batch(rank, 2)
        ddp.zero_grad()
        (functional.cross_entropy(ddp(x), y) * (float("inf") if rank == victim else 1.0)).backward()
        assert not any(p.grad.isfinite().all() for p in ddp.parameters()), "some rank cannot see it"
        assert compression.stats()["overflow_steps"] == 1
        assert same(before, compression.state_dict())
        train(ddp, rank, range(2, 4))


def check_faults(rank):
    for victim in range(dist.get_world_size()):
        ddp = ddp_of()
        compression = lgreco.compress(ddp, LOW_RANK, drift_check_every=1)
        train(ddp, rank, range(2))
        before = compression.state_dict()
        if rank == victim:
            compression.set_grad_scale(2.0)
        assert_one_error(
            "the gradient scale", lgreco.MismatchError, lambda ddp=ddp: step(ddp, rank, 2)
        )
        if rank != victim:
            compression.set_grad_scale(2.0)
        after = compression.state_dict()
        assert same(before["layers"], after["layers"]) and before["step"] == after["step"]
        # Of a layer whoever owns it.
        for name, parameter in list(ddp.module.named_parameters())[:2]:
            kept = parameter.detach().clone()
            if rank == victim:
                parameter.data.flatten()[0] += 1
            assert_one_error(f"'{name}'", lgreco.MismatchError, lambda ddp=ddp: step(ddp, rank, 2))
            parameter.data.copy_(kept)
        assert same(after["layers"], compression.state_dict()["layers"])


def check_dropped_steps(rank):
    ddp = ddp_of()
    compression = lgreco.compress(ddp, LOW_RANK, keep_previous=True)
    train(ddp, rank, range(2))
    before = compression.state_dict()
    step(ddp, rank, 2)
    assert compression.discard_last_step()
    after = compression.state_dict()
    assert same(before["layers"], after["layers"]) and before["step"] == after["step"]
    with compression.paused():
        gradients = step(ddp, rank, 3)
    assert_same_on_all_ranks(gradients, "paused")
    after = compression.state_dict()
    assert same(before["layers"], after["layers"]) and before["step"] == after["step"]
    train(ddp, rank, range(2, 4))


def check_resume(rank):
    policy = lgreco.LGreCo(every=3, start=3, window=2)

    def begin():
        ddp = ddp_of()
        return ddp, lgreco.compress(ddp, LOW_RANK, policy)

    ddp, compression = begin()
    train(ddp, rank, range(5))
    own, everything = compression.state_dict(), [compression.gathered_state_dict()]
    weights = {k: v.clone() for k, v in ddp.module.state_dict().items()}
    assert (everything[0] is not None) == (rank == 0)
    dist.broadcast_object_list(everything)
    assert len(everything[0]) == dist.get_world_size()
    train(ddp, rank, range(5, 9))
    ends = compression.state_dict()
    for state in (own, everything[0]):
        ddp, compression = begin()
        ddp.module.load_state_dict(weights)
        compression.load_state_dict(state)
        train(ddp, rank, range(5, 9))
        assert same(ends, compression.state_dict())
    others = everything[0][1 if rank == 0 else 0]
    try:
        compression.load_state_dict(others)
        raise AssertionError("loaded another rank's state")
    except lgreco.StateError:
        pass


def check_few_layers(rank):
    """Of one layer, all ranks of a node but one own nothing."""
    for method in METHODS:
        ddp = ddp_of(torch.nn.Linear(80, 96, bias=False))
        policy = lgreco.LGreCo(every=2, start=2, window=1)
        compression = lgreco.compress(ddp, lgreco.method(method), policy, drift_check_every=1)
        for number in range(4):
            ddp.zero_grad()
            generator = torch.Generator().manual_seed(10 * number + rank)
            ddp(torch.randn(8, 80, generator=generator)).square().mean().backward()
            assert_same_on_all_ranks([ddp.module.weight.grad], "averages")
            ddp.module.weight.data -= 0.1 * ddp.module.weight.grad
        assert compression.stats()["steps"] == 4
        assert len(compression.plan.levels) == (rank % RANKS_A_NODE == 0)
        state = compression.state_dict()
        compression.load_state_dict(state)
        assert same(state, compression.state_dict())


def check_what_differs_between_ranks(rank):
    last = dist.get_world_size() - 1
    for victim in range(last + 1):
        torch.manual_seed(0)
        ddp = ddp_of(torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)))
        if rank == victim:
            ddp.module[1]._parameters["waits"] = ddp.module[1]._parameters.pop("weight")
        assert_one_error("the ranks differ in layer", lgreco.MismatchError,
                         lambda ddp=ddp: lgreco.compress(ddp, lgreco.Dense()))  # fmt: skip
    node = None if rank == last else "auto"
    assert_one_error(f"the ranks differ in node: rank 0 has 'auto', rank {last} has None",
                     lgreco.MismatchError,
                     lambda: lgreco.compress(ddp_of(), lgreco.Dense(), node=node))  # fmt: skip
    groups = [dist.new_group(ranks) for ranks in ([*range(last)], [last])]
    assert_one_error("nodes of equal size", lgreco.ConfigError,
                     lambda: lgreco.compress(ddp_of(), lgreco.Dense(),
                                             node=groups[rank == last]))  # fmt: skip


def check_which_ranks_are_a_node(rank):
    def owns_all(**settings):
        ddp = ddp_of()
        compression = lgreco.compress(ddp, lgreco.Quantize(bits=4), **settings)
        train(ddp, rank, range(2))
        return len(compression.plan.levels) == len(list(ddp.parameters()))

    size = dist.get_world_size()
    nodes = size // RANKS_A_NODE
    # Ranks of a node that are not consecutive.
    groups = [dist.new_group(range(node, size, nodes)) for node in range(nodes)]
    assert not owns_all(node=groups[rank % nodes])
    assert not owns_all(lanes=1)
    assert owns_all(node=None)
    assert owns_all(node=dist.group.WORLD), "there is one node only"
    os.environ["LOCAL_WORLD_SIZE"] = "1" if rank == 1 else str(RANKS_A_NODE)
    assert owns_all(), "the nodes are not alike"
    on_nodes_of(RANKS_A_NODE)
    os.environ["LOCAL_RANK"] = str((rank + 1) % RANKS_A_NODE)
    assert owns_all(), "the ranks of a node are not consecutive"
    del os.environ["LOCAL_WORLD_SIZE"]
    assert owns_all(), "nobody says what a node is"
    on_nodes_of(RANKS_A_NODE)


CHECKS = [
    check_methods, check_dense_is_the_mean, check_ways_to_run_ddp, check_an_unused_layer,
    check_uneven_inputs, check_one_plan, check_overflows, check_faults, check_dropped_steps,
    check_resume, check_few_layers, check_what_differs_between_ranks, check_which_ranks_are_a_node,
]  # fmt: skip

with process_group() as (rank, size):
    on_nodes_of(RANKS_A_NODE)
    wanted = sys.argv[2:]
    for check in CHECKS:
        if wanted and check.__name__.removeprefix("check_") not in wanted:
            continue
        if rank == 0:
            print(check.__name__, flush=True)
        check(rank)
    if rank == 0:
        print(f"{len(CHECKS)} checks passed")
