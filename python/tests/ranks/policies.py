"""Policies on real ranks: Accordion's decisions, batch-size mode, mixed plans, plans for time."""

import torch
import torch.distributed as dist
from common import assert_same_on_all_ranks, process_group

import lgreco

SHAPES = {"wide": (64, 128), "tall": (256, 32), "bias": (64,)}
# Of the averaged gradients, step by step; intervals of two steps.
NORMS = [8, 8, 8, 9, 3, 3, 3, 3, 3, 3]
CRITICAL = [True, True, False, True, False, False]  # the plain rule: sums of 16, 17, 6, 6, 6


def gradients(step: int, norm: float) -> dict[str, torch.Tensor]:
    """Random, of a fixed direction for each layer, equal on all ranks."""
    tensors = {}
    for name, shape in SHAPES.items():
        generator = torch.Generator().manual_seed(len(name))
        direction = torch.randn(shape, generator=generator)
        tensors[name] = norm * direction / direction.norm()
    return tensors


def accordion() -> None:
    policy = lgreco.Accordion(
        low=lgreco.Quantize(8), high=lgreco.Quantize(4), every=2, micro_batches=(1, 4)
    )
    aggregator = lgreco.Aggregator(SHAPES, lgreco.Quantize(8), policy)
    found = []
    for step, norm in enumerate(NORMS):
        if step % 2 == 0:
            plan = aggregator.plan
            found.append(plan["wide"] == lgreco.Quantize(8))
            small = lgreco.Quantize(8) if found[-1] else lgreco.Dense()  # 8 bits are for all layers
            assert plan["bias"] == small, plan["bias"]
            assert aggregator.micro_batches == (1 if found[-1] else 4)
        aggregator.average_(gradients(step, norm))
    found.append(aggregator.plan["wide"] == lgreco.Quantize(8))
    assert found == CRITICAL, found
    aggregator.on_lr_change(0.1, 0.2)
    assert aggregator.plan["wide"] == lgreco.Quantize(4)
    aggregator.on_lr_change(0.2, 0.1)
    assert aggregator.plan["wide"] == lgreco.Quantize(4)  # the ranks agree with the coming step
    aggregator.average_(gradients(0, NORMS[-1]))
    assert aggregator.plan["wide"] == lgreco.Quantize(8)
    assert aggregator.micro_batches == 1
    aggregator.average_(gradients(0, NORMS[-1]))
    assert aggregator.plan["wide"] == lgreco.Quantize(4)
    for rates in [(float("nan"), 1), (1, -1)]:
        try:
            aggregator.on_lr_change(*rates)
        except lgreco.ConfigError as error:
            assert "learning rates" in str(error)
        else:
            raise AssertionError("wrong rates were accepted")


def planned(policy: lgreco.Policy) -> lgreco.Aggregator:
    """After one plan."""
    aggregator = lgreco.Aggregator(SHAPES, lgreco.PowerSGD(4, min_ratio=1), policy)
    generator = torch.Generator().manual_seed(dist.get_rank())
    for _ in range(6):
        tensors = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
        aggregator.average_(tensors)
        assert_same_on_all_ranks(list(tensors.values()), "averages")
    stats = aggregator.stats()
    assert stats["plans"] == 1 and stats["plan_failures"] == 0, stats
    assert stats["plan_s"] > 0 and stats["plan_wait_s"] > 0, stats
    plan = aggregator.plan
    assert plan.error <= plan.budget, plan
    assert set(plan.estimates) == set(SHAPES)
    return aggregator


def plans() -> None:
    settings = {"every": 5, "start": 5, "window": 2}
    mixed = planned(lgreco.LGreCo(levels="mixed", alpha=1.5, **settings)).plan
    same = planned(lgreco.LGreCo(alpha=1.5, budget="debt", **settings)).plan
    assert mixed.bytes <= same.bytes, (mixed, same)
    slow = lgreco.LGreCo(
        levels=[lgreco.PowerSGD(4, min_ratio=1), lgreco.Quantize(4)],
        objective="time", bandwidth=1e3, latency=1e-6, **settings,
    )  # fmt: skip
    plan = planned(slow).plan
    assert plan["wide"] != lgreco.Dense(), plan
    assert plan.estimates["wide"].reason == "least time within the budget", plan
    assert plan.estimates["wide"].chosen.seconds > 0
    planned(lgreco.LGreCo(objective="time", **settings))  # over the network as it is
    both = lgreco.Accordion(
        lgreco.PowerSGD(4, min_ratio=1), lgreco.PowerSGD(1, min_ratio=1),
        every=100, then=lgreco.LGreCo(**settings),
    )  # fmt: skip
    assert planned(both).plan.estimates["wide"].reference.bytes == 4 * (64 + 128) * 4


def resumed() -> None:
    """A state with Accordion's sums and a plan's estimates goes through `state_dict`."""
    policy = lgreco.Accordion(
        lgreco.PowerSGD(4, min_ratio=1), lgreco.PowerSGD(2, min_ratio=1),
        every=4, then=lgreco.LGreCo(every=5, start=5, window=2),
    )  # fmt: skip
    first = planned(policy)
    state = first.state_dict()
    second = lgreco.Aggregator(SHAPES, lgreco.PowerSGD(4, min_ratio=1), policy)
    second.load_state_dict(state)
    assert second.plan == first.plan
    for step in range(6):
        one, other = gradients(step, 1 + step % 2), gradients(step, 1 + step % 2)
        first.average_(one)
        second.average_(other)
        assert all(torch.equal(one[name], other[name]) for name in SHAPES), step
    assert second.plan == first.plan


with process_group() as (rank, _):
    accordion()
    plans()
    resumed()
    if rank == 0:
        print("policies decide alike")
