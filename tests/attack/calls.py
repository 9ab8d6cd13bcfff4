"""Hostile calls of what needs no process group."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import lgreco
from tests.attack.hostile import text_of, value
from tests.attack.outcomes import Call


@dataclass(frozen=True)
class Target:
    """A public function and arguments with which it works."""

    function: Callable[..., Any]
    good: Sequence[Any]


def _log_start(settings: Any, name: Any, data: Any, layers: Any, ranks: Any) -> None:
    lgreco.RunLog(None, settings=settings, name=name, data=data, layers=layers, ranks=ranks)


def _log_step(loss: Any, step: Any, seconds: Any, rate: Any, stats: Any) -> None:
    log = lgreco.RunLog(None)
    log.step(loss, step=step, seconds=seconds, rate=rate)
    log.stats(stats, seconds=seconds)
    log.evaluate(seconds=seconds, loss=loss)
    log.end(seconds=seconds, stats=stats)


_ARRAY = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
_PLAN = lgreco.Plan({"a": lgreco.Quantize(4)})
TARGETS = (
    Target(lgreco.method, ["quantize:4"]),
    Target(lgreco.encode, [_ARRAY, lgreco.Quantize(4), 0, 0]),
    Target(lgreco.decode, [lgreco.encode(_ARRAY, lgreco.Cast()), (8, 8), lgreco.Cast()]),
    Target(lgreco.cost_table, [{"a": _ARRAY}, [lgreco.Quantize(4)], 2]),
    Target(lgreco.solve, [[np.ones(2)], [np.ones(2)], 1.0, [0], "exact"]),
    Target(lgreco.Plan, [{"a": lgreco.Quantize(4)}]),
    Target(lgreco.Plan.from_dict, [_PLAN.to_dict()]),
    Target(lgreco.Plan.load, ["plan.json"]),
    Target(_PLAN.save, ["/proc/nowhere"]),
    Target(lgreco.Quantize, [4, 512, "nearest"]),
    Target(lgreco.TopK, [0.01, "4"]),
    Target(lgreco.Entropy, [0.5]),
    Target(lgreco.PowerSGD, [4, 2.0, "fp32"]),
    Target(lgreco.Cast, ["bf16"]),
    Target(lgreco.Fixed, [_PLAN]),
    Target(lgreco.LGreCo, [1000]),
    Target(_log_start, [{"seed": 0}, "run", "noise", {"w": [2, 3]}, 2]),
    Target(_log_step, [1.0, 1, 0.5, 0.1, {"steps": 1}]),
    Target(lgreco.Accordion, ["low_rank:2", "low_rank:4"]),
)


def calls(count: int, random_numbers: random.Random) -> Iterator[Call]:
    """`count` calls, most of them with one argument that is wrong."""
    for _ in range(count):
        target = random_numbers.choice(TARGETS)
        arguments = list(target.good)
        wrong = 1 if random_numbers.random() < 0.7 else len(arguments)
        for index in random_numbers.sample(range(len(arguments)), wrong):
            arguments[index] = value(random_numbers)
        yield Call(
            f"{target.function.__qualname__}({', '.join(map(text_of, arguments))})",
            lambda f=target.function, a=arguments: f(*a),  # type: ignore[misc]
        )
