"""Hostile calls of what needs torch and a process group; here of one rank."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import lgreco
from tests.attack import hostile
from tests.attack.outcomes import Call

TENSORS: tuple[Any, ...] = (
    torch.zeros(3),
    torch.zeros(4, 4),
    torch.full((4, 4), float("nan")),
    torch.zeros(4, 4, dtype=torch.int64),
    torch.zeros(4, 4, dtype=torch.complex64),
    torch.zeros(4, 4, dtype=torch.bfloat16),
    torch.zeros(1).expand(4, 4),
    torch.zeros(4, 8)[:, ::2],
    torch.zeros(4, 4).to_sparse(),
    torch.zeros(4, 4, device="meta"),
    torch.zeros(0),
    torch.zeros(4, 4, requires_grad=True),
)
SETTINGS = (
    "error_feedback", "seed", "start", "residual", "drift_check_every", "timeout", "lanes",
    "threads", "grad_scaler", "keep_previous", "policy",
)  # fmt: skip


def value(random_numbers: random.Random) -> Any:
    if random_numbers.random() < 0.3:
        return random_numbers.choice(TENSORS)
    return hostile.value(random_numbers)


@cache
def group() -> dist.ProcessGroup:
    """Of this process alone, which calls are forked into."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    return dist.group.WORLD


@cache
def aggregator() -> lgreco.Aggregator:
    group()
    return lgreco.Aggregator({"a": (4, 4), "b": (8,)}, "quantize:4", keep_previous=True)


def model() -> DistributedDataParallel:
    group()
    return DistributedDataParallel(torch.nn.Linear(4, 4))


def training_calls(count: int, random_numbers: random.Random) -> Iterator[Call]:
    kinds = (_setting, _method, _layers, _average, _state, _method_of_a_run, _outer_step)
    for _ in range(count):
        text, run = random_numbers.choice(kinds)(random_numbers)
        yield Call(text, run)


Made = tuple[str, Callable[[], object]]


def _setting(random_numbers: random.Random) -> Made:
    of_compress = random_numbers.random() < 0.5
    own = "node" if of_compress else "process_group"
    name, wrong = random_numbers.choice((*SETTINGS, own)), value(random_numbers)
    text = f"{name}={hostile.text_of(wrong)}"
    if of_compress:
        return f"compress({text})", lambda: lgreco.compress(model(), "quantize:4", **{name: wrong})
    layers = {"a": (4, 4)}
    return f"Aggregator({text})", lambda: _grouped(
        lambda: lgreco.Aggregator(layers, "quantize:4", **{name: wrong})
    )


def _grouped(run: Callable[[], object]) -> object:
    group()
    return run()


def _method(random_numbers: random.Random) -> Made:
    wrong = value(random_numbers)
    text = hostile.text_of(wrong)
    if random_numbers.random() < 0.5:
        return f"compress(method={text})", lambda: lgreco.compress(model(), wrong)
    return f"compress({text})", lambda: _grouped(lambda: lgreco.compress(wrong, "quantize:4"))


def _layers(random_numbers: random.Random) -> Made:
    wrong = value(random_numbers)
    if random_numbers.random() < 0.6:
        wrong = {random_numbers.choice(("a", "", "\0", "\ud800", 1, None)): wrong}
    return f"Aggregator({hostile.text_of(wrong)})", lambda: _grouped(
        lambda: lgreco.Aggregator(wrong, "quantize:4")
    )


def _average(random_numbers: random.Random) -> Made:
    wrong = value(random_numbers)
    if random_numbers.random() < 0.8:
        wrong = {random_numbers.choice(("a", "b", "c", 1, "\ud800")): wrong}
    return f"average_({hostile.text_of(wrong)})", lambda: aggregator().average_(wrong)


def _state(random_numbers: random.Random) -> Made:
    seed = random_numbers.randrange(2**32)

    def load() -> None:
        numbers = random.Random(seed)
        good = numbers.choice((aggregator().state_dict, aggregator().portable_state_dict))()
        state = mutated(copy.copy(good), numbers)
        if numbers.random() < 0.2:
            state = [state]
        aggregator().load_state_dict(state)

    return f"load_state_dict(mutated by {seed})", load


def mutated(state: Any, random_numbers: random.Random) -> Any:
    """One value in it, at any depth, replaced or left out."""
    if not isinstance(state, dict) or not state or random_numbers.random() < 0.1:
        return value(random_numbers)
    key = random_numbers.choice(list(state))
    if random_numbers.random() < 0.1:
        return {k: v for k, v in state.items() if k != key}
    if random_numbers.random() < 0.1:
        return {**state, random_numbers.choice(("extra", 7, "\ud800")): value(random_numbers)}
    return {**state, key: mutated(state[key], random_numbers)}


def _method_of_a_run(random_numbers: random.Random) -> Made:
    wrong, other = value(random_numbers), value(random_numbers)
    calls: dict[str, Callable[[], object]] = {
        "on_lr_change": lambda: aggregator().on_lr_change(wrong, other),
        "set_grad_scale": lambda: aggregator().set_grad_scale(wrong),
        "stats": lambda: aggregator().stats(wrong),
        "log_to": lambda: aggregator().log_to(wrong),
        "log_to every": lambda: aggregator().log_to(None, every=wrong),
        "trace": lambda: aggregator().trace(wrong).__enter__(),
        "load_state_dict": lambda: aggregator().load_state_dict(wrong),
        "world_size_change": lambda: aggregator().load_state_dict(
            aggregator().state_dict(), world_size_change=wrong
        ),
        "step": lambda: aggregator().load_state_dict(aggregator().state_dict(), step=wrong),
    }
    name = random_numbers.choice(list(calls))
    return f"{name}({hostile.text_of(wrong)}, {hostile.text_of(other)})", calls[name]


def _outer_step(random_numbers: random.Random) -> Made:
    name = random_numbers.choice(("every", "lr", "momentum", "nesterov", "fragments", "policy"))
    wrong = value(random_numbers)
    return f"OuterStep({name}={hostile.text_of(wrong)})", lambda: _grouped(
        lambda: lgreco.OuterStep(torch.nn.Linear(4, 4), "quantize:4", **{"every": 10, name: wrong})
    )
