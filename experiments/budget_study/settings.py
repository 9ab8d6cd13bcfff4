"""Which runs there are: uniform settings of every family, and mixed plans."""

from __future__ import annotations

from dataclasses import dataclass

import lgreco
from lgreco import _core

UNIFORM = (
    "dense", "cast:bf16",
    "low_rank:1", "low_rank:2", "low_rank:4", "low_rank:8",
    "low_rank:1:factors=8", "low_rank:2:factors=8", "low_rank:4:factors=8", "low_rank:8:factors=8",
    "low_rank:4:factors=4",
    "quantize:1", "quantize:2", "quantize:4", "quantize:8",
    "entropy:0.1", "entropy:0.25", "entropy:0.5", "entropy:1", "entropy:2",
    "topk:0.1", "topk:0.03", "topk:0.01", "topk:0.003", "topk:0.001",
)  # fmt: skip
REFERENCE = "low_rank:4"  # of mixed plans
SIXTEEN_BIT = ("dense", "cast")  # for small layers, whatever the family
RATIOS = (10.0, 25.0, 60.0, 120.0, 200.0)


@dataclass(frozen=True)
class Setting:
    """One run: a level for all layers, or the plan of a measure at a ratio.

    `within` names the one family that a plan chooses from; empty for all.
    """

    level: str = ""
    measure: str = ""
    ratio: float = 0.0
    within: str = ""

    @property
    def name(self) -> str:
        if self.level:
            return self.level
        return "/".join(filter(None, (self.measure, self.within))) + f"@{self.ratio:g}"


def _candidates() -> list[str]:
    return list(dict.fromkeys([*_core.mixed_levels(REFERENCE), *UNIFORM]))


def candidates() -> list[lgreco.Method]:
    """What a plan chooses from: the library's own for mixed plans, and the uniform settings."""
    return [lgreco.method(level) for level in _candidates()]


def allowed(within: str) -> list[bool]:
    """Of each candidate, whether a plan within this family may use it."""
    return [not within or family(level) in (within, *SIXTEEN_BIT) for level in _candidates()]


def family(level: str) -> str:
    """The part of a level's spelling that names its method."""
    return level.partition(":")[0]
