"""Whether compression saves bytes at all: a run in which it does not is told so, once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from lgreco.methods import Dense, Method

_STEPS = 10  # whose bytes are compared with those of plain data parallelism


class Savings:
    """Of one run, on this rank."""

    def __init__(self, first_step: int) -> None:
        """`first_step`: the first that is compressed."""
        self._first_step = first_step
        self._passes = 0
        self._next_look: float = first_step + 2
        self._before: Mapping[str, Any] | None = None  # the counters when looking began

    def check_plan(self, plan_bytes: float, gradient_bytes: float, level: Method) -> None:
        """Of the whole model, where this `level` was asked for. Warns when all of it is dense."""
        if isinstance(level, Dense) or gradient_bytes == 0 or plan_bytes < gradient_bytes:
            return
        self._next_look = math.inf
        _warn(
            f"no layer is compressed: {level} makes none of them smaller, and all travel dense. "
            "Low rank needs matrices that are large for the rank, and vectors below 4,096 elements "
            "stay dense. Choose a lower rank, or another method such as quantize:4; `lgreco ratio` "
            "shows what a level sends of each model"
        )

    def before_pass(self, stats: Callable[[], Mapping[str, Any]]) -> None:
        """Warns, after some compressed steps, when they sent more than dense ones would have.

        `stats`: of the run so far. Called a few times in a run, since it takes time."""
        self._passes += 1
        if self._passes < self._next_look:
            return
        now = stats()
        wanted = self._first_step + 1 if self._before is None else self._before["steps"] + _STEPS
        if now["steps"] < wanted:  # passes that accumulate, or were paused, or overflowed
            self._next_look = self._passes + max(_STEPS, wanted - now["steps"])
        elif self._before is None:
            self._before = now
            self._next_look = self._passes + _STEPS
        else:
            self._next_look = math.inf
            names = ("steps", "bytes_sent", "dense_bytes")
            steps, sent, dense = (now[name] - self._before[name] for name in names)
            if sent > dense:
                _warn(
                    f"{sent} bytes were sent in {steps} steps, where "
                    f"plain data parallelism sends {dense}. Choose a level that sends less; when "
                    "none does, the model is so small that the messages' own bytes count: train it "
                    "without lgreco"
                )


def _warn(what: str) -> None:
    warnings.warn(f"[lgreco] {what}.", RuntimeWarning, stacklevel=4)
