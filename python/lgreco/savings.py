"""Whether compression saves bytes at all: a run in which it does not is told so, once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from lgreco.methods import Dense, Method

_STEPS = 10  # whose bytes are compared with those of plain data parallelism


class Savings:
    """Of one run, looked at from one rank.

    Args:
        level: of all layers that it suits, until something is planned.
        gradient_bytes: of the whole model.
        first_step: the first that is compressed.
        is_measurable: what this rank sends is a fair share of all.
        stats, plan_bytes: counters of the run so far, and what the plan makes of `gradient_bytes`.
            Called a few times in a run: they take time.
    """

    def __init__(
        self,
        level: Method,
        gradient_bytes: float,
        first_step: int,
        is_measurable: bool,
        stats: Callable[[], Mapping[str, Any]],
        plan_bytes: Callable[[], float],
    ) -> None:
        self._level = level
        self._gradient_bytes = gradient_bytes
        self._first_step = first_step
        self._is_measurable = is_measurable
        self._stats = stats
        self._plan_bytes = plan_bytes
        self._passes = 0
        self._next_look: float = 2 + first_step
        self._before: Mapping[str, Any] | None = None  # the counters when looking began
        if first_step == 0:
            self._look_at_plan()

    def before_pass(self) -> None:
        """Looks after the first compressed step, and some steps later."""
        self._passes += 1
        if self._passes < self._next_look:
            return
        now = self._stats()
        wanted = self._first_step + 1 if self._before is None else self._before["steps"] + _STEPS
        if now["steps"] < wanted:  # passes that accumulate, or were paused, or overflowed
            self._next_look = self._passes + max(_STEPS, wanted - now["steps"])
        elif self._before is None:
            self._before = now
            self._next_look = self._passes + _STEPS
            if self._first_step > 0:
                self._look_at_plan()
        else:
            self._next_look = math.inf
            self._compare(self._before, now)

    def _look_at_plan(self) -> None:
        if isinstance(self._level, Dense) or self._gradient_bytes == 0:
            return
        if self._plan_bytes() < self._gradient_bytes:
            return
        self._next_look = math.inf
        _warn(
            f"no layer is compressed: {self._level} makes none of them smaller, and all travel "
            "dense. Low rank needs matrices that are large for the rank, and vectors below 4,096 "
            "elements stay dense. Choose a lower rank, or another method such as quantize:4; "
            "`lgreco ratio` shows what a level sends of a model"
        )

    def _compare(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        names = ("steps", "bytes_sent", "dense_bytes")
        steps, sent, dense = (now[name] - before[name] for name in names)
        if not self._is_measurable or isinstance(self._level, Dense) or sent <= dense:
            return
        _warn(
            f"{sent} bytes were sent in {steps} steps, where plain data parallelism sends {dense}. "
            "Choose a level that sends less; when none does, the model is so small that the "
            "messages' own bytes count: train it without lgreco"
        )


def _warn(what: str) -> None:
    warnings.warn(f"[lgreco] {what}.", RuntimeWarning, stacklevel=4)
