"""Plans: one method per layer."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from lgreco import _core
from lgreco.arguments import require_number, require_text, require_whole, shown
from lgreco.errors import ConfigError, StateError
from lgreco.files import read_json, write_whole_file
from lgreco.methods import Method, method

_FORMAT = "lgreco-plan-1"
_NUMBERS = ("bytes", "error", "budget", "lower_bound")
_COUNTS = ("step", "version")


@dataclass(frozen=True)
class Estimate:
    """What one level does to one layer.

    Attributes:
        bytes: payload of all rounds, as one rank hands it over.
        error: L2 norm of what the level loses of the layer, whatever the budget makes of it.
        seconds: of encoding, decoding and the wire; 0 unless the plan was made for time.
    """

    bytes: float
    error: float
    seconds: float


@dataclass(frozen=True)
class LayerEstimate:
    """Why a layer has its level: a short text, and the figures beside the alternatives'."""

    reason: str
    chosen: Estimate
    reference: Estimate
    dense: Estimate


_ALTERNATIVES = ("chosen", "reference", "dense")


@dataclass(frozen=True)
class Plan(Mapping[str, Method]):
    """A mapping from layer name to method, with how it came about.

    Attributes:
        levels: the mapping itself.
        step: from which on it was made to be used.
        version: 0 for the first plan, growing with each change.
        bytes: payload of the whole model, of all rounds, as one rank hands it over.
        error: summed over the layers, as the policy's budget measures it; 0 when not planned.
        budget: what `error` had to stay within.
        lower_bound: no plan within the budget has fewer bytes; 0 when nothing is proven.
        estimates: by layer; empty when the plan was not made from measurements.
    """

    levels: Mapping[str, Method]
    step: int = 0
    version: int = 0
    bytes: float = 0.0
    error: float = 0.0
    budget: float = 0.0
    lower_bound: float = 0.0
    estimates: Mapping[str, LayerEstimate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ConfigError on what is no plan."""
        if not isinstance(self.levels, Mapping):
            raise ConfigError(
                f"[plan] levels must be a mapping of names to levels, not {shown(self.levels)}"
            )
        levels = {
            require_text("[plan] the name of a layer", name): method(level)
            for name, level in self.levels.items()
        }
        object.__setattr__(self, "levels", levels)
        for name in _COUNTS:
            require_whole(f"[plan] {name}", getattr(self, name))
        for name in _NUMBERS:
            require_number(f"[plan] {name}", getattr(self, name))

    def __getitem__(self, layer: str) -> Method:
        return self.levels[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.levels)

    def __len__(self) -> int:
        return len(self.levels)

    def __repr__(self) -> str:
        counts = Counter(str(level) for level in self.levels.values())
        levels = ", ".join(f"{count} x {level}" for level, count in counts.most_common())
        return (
            f"<lgreco.Plan {self.hash}: version {self.version}, from step {self.step}, "
            f"{len(self)} layers ({levels}), {self.bytes:,.0f} bytes>"
        )

    @property
    def hash(self) -> str:
        """XXH3-64 of names, levels and wire versions, in hexadecimal: equal for equal plans."""
        return f"{_core.plan_hash([(name, str(m)) for name, m in self.levels.items()]):016x}"

    def to_dict(self) -> dict[str, object]:
        """Plain values, as in the file."""
        numbers = {name: getattr(self, name) for name in _COUNTS + _NUMBERS}
        return {
            "levels": {name: str(m) for name, m in self.levels.items()},
            **numbers,
            "estimates": {name: asdict(estimate) for name, estimate in self.estimates.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Plan:
        """The inverse of `to_dict`, also of dicts without estimates.

        Raises StateError on anything unexpected.
        """
        levels = _mapping(values, "a plan").get("levels")
        if not isinstance(levels, Mapping):
            raise StateError("[plan] 'levels' is missing or no mapping of names to levels")
        try:
            parsed = {
                require_text("the name of a layer", name): method(spelling)
                for name, spelling in levels.items()
            }
        except ConfigError as error:
            raise StateError(f"[plan] {error}") from error
        numbers = {name: _number(values, name, f"'{name}'") for name in _NUMBERS}
        counts = {name: _count(values, name) for name in _COUNTS}
        estimates = _estimates(values.get("estimates", {}), parsed)
        return cls(
            levels=parsed,
            step=counts["step"],
            version=counts["version"],
            **numbers,
            estimates=estimates,
        )

    def save(self, path: str | Path) -> None:
        """Write JSON, whole or not at all. Raises StateError when `path` cannot be written."""
        text = json.dumps({"format": _FORMAT, **self.to_dict(), "hash": self.hash}, indent=1)
        write_whole_file(path, text + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read what `save` wrote. Raises StateError naming what is wrong with the file."""
        values = read_json(path)
        if not isinstance(values, dict) or values.get("format") != _FORMAT:
            raise StateError(f"[plan] {path} is not a plan of format {_FORMAT!r}")
        try:
            plan = cls.from_dict(values)
        except StateError as error:
            raise StateError(f"{error} (in {path})") from error
        if values.get("hash") != plan.hash:
            raise StateError(
                f"[plan] {path} is damaged, or of other wire versions of its methods: its hash is "
                "not that of its levels"
            )
        return plan


def _estimates(values: object, levels: Mapping[str, Method]) -> dict[str, LayerEstimate]:
    estimates = {}
    for layer, entry in _mapping(values, "'estimates'").items():
        if layer not in levels:
            raise StateError(f"[plan] there are estimates of '{layer}', which has no level")
        estimates[layer] = _layer_estimate(_mapping(entry, f"estimates of '{layer}'"), layer)
    return estimates


def _layer_estimate(values: Mapping[str, object], layer: str) -> LayerEstimate:
    where = f"estimates of '{layer}'"
    _only(values, {"reason", *_ALTERNATIVES}, where)
    reason = values.get("reason")
    if not isinstance(reason, str):
        raise StateError(f"[plan] {where}: 'reason' is missing or no text")
    return LayerEstimate(
        reason,
        **{name: _estimate(values.get(name), f"{where}: '{name}'") for name in _ALTERNATIVES},
    )


def _estimate(values: object, where: str) -> Estimate:
    names = [field.name for field in fields(Estimate)]
    numbers = _mapping(values, where)
    _only(numbers, set(names), where)
    return Estimate(**{name: _number(numbers, name, f"{where}: '{name}'") for name in names})


def _count(values: Mapping[str, object], name: str) -> int:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**64:
        raise StateError(f"[plan] '{name}' is missing or no whole number")
    return value


def _mapping(values: object, where: str) -> Mapping[str, object]:
    if not isinstance(values, Mapping):
        raise StateError(f"[plan] {where} is missing or no mapping")
    return values


def _only(values: Mapping[str, object], known: set[str], where: str) -> None:
    for name in values:
        if name not in known:
            raise StateError(f"[plan] {where}: unknown key '{name}'")


def _number(values: Mapping[str, object], name: str, where: str) -> float:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise StateError(f"[plan] {where} is missing or no finite number")
    if value < 0:
        raise StateError(f"[plan] {where} is negative")
    return value
