"""Policies: when a plan is made, and from which candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from lgreco.errors import ConfigError
from lgreco.methods import Method
from lgreco.plan import Plan


class Policy:
    """Base of all policies."""

    def settings(self, layers: Sequence[str], method: Method) -> dict[str, object]:
        """The engine's view of this policy for a model with these layers."""
        raise NotImplementedError


@dataclass(frozen=True)
class Uniform(Policy):
    """Every layer at the reference level."""

    def settings(self, layers: Sequence[str], method: Method) -> dict[str, object]:
        return {"kind": "uniform"}


@dataclass(frozen=True)
class LGreCo(Policy):
    """Fewest bytes within the error that the reference would cause (MLSys 2024).

    Args:
        every: steps between plans.
        start: step of the first plan; the reference level is used until then.
        window: plans are made from the mean of the last `window` corrected gradients.
        levels: "same" for the reference's own family, or a list of methods to choose from.
        alpha: budget as a multiple of the reference's error.
        budget: "norm" sums the layers' error norms (the paper's), "squared" their squares.
        objective: what to minimise: "bytes".
        solver: "exact", or "dp" for the paper's dynamic programme.
        layers: "all", or "reference" for only those that the reference level compresses.
    """

    every: int = 1000
    start: int = 1000
    window: int = 10
    levels: str | Sequence[Method] = "same"
    alpha: float = 1.0
    budget: str = "norm"
    objective: str = "bytes"
    solver: str = "exact"
    layers: str = "all"

    def __post_init__(self) -> None:
        if self.levels == "mixed":
            raise ConfigError(
                '[policy] LGreCo: levels="mixed" is not yet available in this version; '
                'use "same" or a list of methods'
            )
        if self.objective == "time":
            raise ConfigError(
                '[policy] LGreCo: objective="time" is not yet available in this version; '
                'use "bytes"'
            )
        _one_of("budget", self.budget, ("norm", "squared"))
        _one_of("objective", self.objective, ("bytes",))
        _one_of("solver", self.solver, ("exact", "dp"))
        _one_of("layers", self.layers, ("all", "reference"))
        for name in ("every", "start", "window"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"[policy] LGreCo: {name} must be at least 1, not {value!r}")
        self._candidates()

    def settings(self, layers: Sequence[str], method: Method) -> dict[str, object]:
        return {
            "kind": "lgreco",
            "every": self.every,
            "start": self.start,
            "window": self.window,
            "alpha": float(self.alpha),
            "budget": self.budget,
            "solver": self.solver,
            "layers": self.layers,
            "candidates": self._candidates(),
        }

    def _candidates(self) -> list[str]:
        if self.levels == "same":
            return []
        if isinstance(self.levels, str) or not all(isinstance(m, Method) for m in self.levels):
            raise ConfigError(
                f'[policy] LGreCo: levels must be "same" or a list of methods, not {self.levels!r}'
            )
        return [str(method) for method in self.levels]


@dataclass(frozen=True)
class Accordion(Policy):
    """Low compression in critical regimes, high elsewhere (MLSys 2021). Not yet available."""

    low: Method
    high: Method
    every: int = 1000
    threshold: float = 0.5
    then: LGreCo | None = None

    def __post_init__(self) -> None:
        raise ConfigError(
            "[policy] Accordion is not yet available in this version; use LGreCo() or Uniform()"
        )


@dataclass(frozen=True)
class Fixed(Policy):
    """Levels by hand: the first pattern (as in fnmatch) that matches a layer's name decides.

    Layers without a match get the reference level.
    """

    levels: Mapping[str, Method] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> Fixed:
        """The plan in `path`, as `Plan.save` wrote it. Raises StateError."""
        return cls(dict(Plan.load(path)))

    def settings(self, layers: Sequence[str], method: Method) -> dict[str, object]:
        for pattern, level in self.levels.items():
            if not isinstance(level, Method):
                raise ConfigError(f"[policy] Fixed: '{pattern}' maps to {level!r}, not a method")
            if not any(fnmatchcase(layer, pattern) for layer in layers):
                raise ConfigError(
                    f"[policy] Fixed: '{pattern}' matches no layer; the first layers are "
                    + ", ".join(layers[:3])
                )
        levels = {}
        for layer in layers:
            match = next((p for p in self.levels if fnmatchcase(layer, p)), None)
            if match is not None:
                levels[layer] = str(self.levels[match])
        return {"kind": "fixed", "levels": levels}


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"[policy] LGreCo: {name} is {value!r}; it must be one of {allowed}")
