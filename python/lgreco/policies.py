"""Policies: when a plan is made, and from which candidates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from lgreco import _core
from lgreco.arguments import is_list, require_number, require_text, require_whole, shown
from lgreco.brief import Brief
from lgreco.errors import ConfigError
from lgreco.methods import Level, Method
from lgreco.methods import method as level_of
from lgreco.plan import Plan
from lgreco.shard_names import parameter_of

_MOST_LEVELS_SHOWN = 4


class Policy(Brief):
    """Base of all policies."""

    def settings(self, layers: Sequence[str], method: Method) -> dict[str, object]:
        """The engine's view of this policy for a model with these layers."""
        raise NotImplementedError

    def first_level(self, method: Method) -> Method:
        """What layers have until something is planned or decided; `method` is the reference."""
        return method


@dataclass(frozen=True)
class Uniform(Policy):
    """Every layer at the reference level."""

    def settings(self, layers: Sequence[str], method: Method) -> dict[str, object]:
        return {"kind": "uniform"}


def checked_policy(policy: Policy | None) -> Policy:
    """`Uniform()` for None. Raises ConfigError on what is no policy."""
    if policy is None:
        return Uniform()
    if not isinstance(policy, Policy):
        raise ConfigError(
            "[compress] policy must be an lgreco policy such as lgreco.LGreCo(), not "
            f"{shown(policy)}"
        )
    return policy


def default_budget(levels: object) -> str:
    """The budget of a plan from these levels; docs/budget_study.md says why."""
    return "debt" if levels == "mixed" else "norm"


@dataclass(frozen=True)
class LGreCo(Policy):
    """Fewest bytes within the error that the reference would cause (MLSys 2024).

    Plans are measured and solved in the background during the last `every / 20` steps (at most 50)
    before they take effect; with `every` below 20, in between two steps. A rank that is not ready
    then is waited for, 10 seconds at most; a plan that some rank cannot make is dropped on all
    ranks, and counted in `stats()["plan_failures"]`.

    Args:
        every: steps between plans.
        start: step at which the first one takes effect; until then the reference level is used.
        window: plans are made from the mean of `window` corrected gradients (gradient + residual).
        levels: "same" for the reference's own family, "mixed" for all families, or a list of
            levels to choose from, methods or their spellings.
        alpha: budget as a multiple of the reference's error.
        budget: "norm" sums the layers' error norms (the paper's), "squared" their squares, "debt"
            the squares of what error feedback still owes of the last three gradients. None: "debt"
            with levels="mixed" (docs/budget_study.md says why), otherwise "norm".
        objective: what to minimise: "bytes", or "time": seconds to encode, send and decode, when
            nothing is hidden behind compute. Layers travel dense where that is faster.
        solver: "exact", or "dp" for the paper's dynamic programme.
        layers: "all", or "reference" for only those that the reference level compresses.
        bandwidth, latency: the network for objective="time": bytes per second that a rank can send,
            seconds that a small collective takes. Measured at the start when not given.
    """

    every: int = 1000
    start: int = 1000
    window: int = 10
    levels: str | Iterable[Level] = "same"
    alpha: float = 1.0
    budget: str | None = None
    objective: str = "bytes"
    solver: str = "exact"
    layers: str = "all"
    bandwidth: float | None = None
    latency: float | None = None

    def __post_init__(self) -> None:
        _one_of("budget", self.budget, (None, "norm", "squared", "debt"))
        _one_of("objective", self.objective, ("bytes", "time"))
        _one_of("solver", self.solver, ("exact", "dp"))
        _one_of("layers", self.layers, ("all", "reference"))
        for name in ("every", "start", "window"):
            require_whole(f"[policy] LGreCo: {name}", getattr(self, name), least=1)
        require_number("[policy] LGreCo: alpha", self.alpha)
        object.__setattr__(self, "levels", _checked_levels(self.levels))
        if (self.bandwidth is None) != (self.latency is None):
            raise ConfigError("[policy] LGreCo: give bandwidth and latency, or neither")
        for name in ("bandwidth", "latency"):
            if getattr(self, name) is not None:
                require_number(f"[policy] LGreCo: {name}", getattr(self, name))
        if self.bandwidth is not None and self.objective != "time":
            raise ConfigError('[policy] LGreCo: bandwidth and latency need objective="time"')

    def settings(self, layers: Sequence[str], method: Method) -> dict[str, object]:
        return self.settings_for([method])

    def settings_for(self, references: Sequence[Level]) -> dict[str, object]:
        """The engine's view, when each layer's reference is one of these."""
        return {
            "kind": "lgreco",
            "every": self.every,
            "start": self.start,
            "window": self.window,
            "alpha": float(self.alpha),
            "budget": self.budget or default_budget(self.levels),
            "objective": self.objective,
            "solver": self.solver,
            "layers": self.layers,
            "network": None if self.bandwidth is None else (self.bandwidth, self.latency),
            "candidates": self._candidates(references),
        }

    def _candidates(self, references: Sequence[Level]) -> list[str]:
        if self.levels == "same":
            return []
        if self.levels == "mixed":
            return [level for method in references for level in _core.mixed_levels(str(method))]
        return [str(level) for level in self.levels]


@dataclass(frozen=True)
class Accordion(Policy):
    """Low compression in critical regimes, high elsewhere (MLSys 2021).

    Every `every` steps the detector compares, for each layer, the norm of the averaged gradients
    summed over these steps with that of the interval before. All layers count as critical until two
    intervals can be compared, and after a decay of the learning rate that
    `Compression.on_lr_change` tells.

    Args:
        low, high: the level of a layer in a critical regime, and outside of one: methods, or their
            spellings. They take the place of the method that `compress` is given.
        every: steps between decisions; the paper's are some epochs.
        threshold: the relative change of the norm that makes a regime critical.
        then: plan by L-GreCo under the error that the levels chosen by the detector would cause.
        micro_batches: the batch-size mode: `Compression.micro_batches` tells the training loop how
            many batches to accumulate before each synchronisation, in and outside of critical
            regimes of the whole model. With low equal to high this is all that changes.
    """

    low: Level
    high: Level
    every: int = 1000
    threshold: float = 0.5
    then: LGreCo | None = None
    micro_batches: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            level = _checked_level(f"Accordion: {name}", getattr(self, name))
            object.__setattr__(self, name, level)
        require_whole("[policy] Accordion: every", self.every, least=1)
        threshold = require_number("[policy] Accordion: threshold", self.threshold)
        if not 0 < threshold < math.inf:
            raise ConfigError(
                "[policy] Accordion: threshold must be positive and finite, not "
                f"{shown(self.threshold)}"
            )
        if self.then is not None and not isinstance(self.then, LGreCo):
            raise ConfigError(
                f"[policy] Accordion: then must be an lgreco.LGreCo, not {shown(self.then)}"
            )
        if not isinstance(self.micro_batches, tuple) or len(self.micro_batches) != 2:
            raise ConfigError(
                "[policy] Accordion: micro_batches must be two numbers: in critical regimes, "
                f"and outside; not {shown(self.micro_batches)}"
            )
        for count in self.micro_batches:
            require_whole("[policy] Accordion: micro_batches", count, least=1)

    def first_level(self, method: Method) -> Method:
        return level_of(self.low)

    def settings(self, layers: Sequence[str], method: Method) -> dict[str, object]:
        then = (
            None
            if self.then is None
            else self.then.settings_for([level_of(self.low), level_of(self.high)])
        )
        return {
            "kind": "accordion",
            "low": str(self.low),
            "high": str(self.high),
            "every": self.every,
            "threshold": float(self.threshold),
            "then": then,
        }


@dataclass(frozen=True)
class Fixed(Policy):
    """Levels by hand: a layer's own name decides, or else the first pattern (as in fnmatch) of it.

    Levels are methods, or their spellings. Layers without a match get the reference level. A shard
    of a parameter is found by its own name and by the parameter's.
    """

    levels: Mapping[str, Level] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.levels, Mapping):
            raise ConfigError(
                f"[policy] Fixed: levels must be a mapping of names to levels, not "
                f"{shown(self.levels)}"
            )
        levels = {
            require_text("[policy] Fixed: a name", pattern): _checked_level(
                f"Fixed: {shown(pattern)}", level
            )
            for pattern, level in self.levels.items()
        }
        object.__setattr__(self, "levels", levels)

    def __repr__(self) -> str:
        if len(self.levels) <= _MOST_LEVELS_SHOWN:
            return super().__repr__()
        return f"<lgreco.Fixed of {len(self.levels)} names and patterns>"

    @classmethod
    def load(cls, path: str | Path) -> Fixed:
        """The plan in `path`, as `Plan.save` wrote it. Raises StateError."""
        return cls(dict(Plan.load(path)))

    def settings(self, layers: Sequence[str], method: Method) -> dict[str, object]:
        for pattern in self.levels:
            if not any(_matches(layer, pattern) for layer in layers):
                raise ConfigError(
                    f"[policy] Fixed: '{pattern}' matches no layer; the first layers are "
                    + ", ".join(layers[:3])
                )
        levels = {}
        for layer in layers:
            first = next((p for p in self.levels if _matches(layer, p)), None)
            key = layer if layer in self.levels else first
            if key is not None:
                levels[layer] = str(self.levels[key])
        return {"kind": "fixed", "levels": levels}


def _one_of(name: str, value: str | None, allowed: tuple[str | None, ...]) -> None:
    if not isinstance(value, str | None) or value not in allowed:
        raise ConfigError(f"[policy] LGreCo: {name} is {shown(value)}; it must be one of {allowed}")


def _checked_levels(levels: object) -> str | tuple[Method, ...]:
    if isinstance(levels, str) and levels in ("same", "mixed"):
        return levels
    listed: tuple[Method, ...] = ()
    if is_list(levels) or isinstance(levels, Iterator):
        listed = tuple(_checked_level("LGreCo: levels", level) for level in levels)
    if not listed:
        raise ConfigError(
            '[policy] LGreCo: levels must be "same", "mixed" or a list of one or more levels, '
            f"not {shown(levels)}"
        )
    return listed


def _checked_level(where: str, level: Level) -> Method:
    try:
        return level_of(level)
    except ConfigError as error:
        raise ConfigError(f"[policy] {where}: {error}") from error


def _matches(layer: str, pattern: str) -> bool:
    """A name stands for itself, whatever it holds, as names of a plan do; a parameter's name for
    its shards."""
    names = (layer, parameter_of(layer))
    return any(name == pattern or fnmatchcase(name, pattern) for name in names)
