"""The C++ core without torch, as python/bindings makes it. Levels are spellings ("low_rank:4")."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

__version__: str
LONGEST_TIMEOUT_SECONDS: float
GLOO_MESSAGE_BYTES: int
FRAME_BYTES: int

class _Level(TypedDict):
    method: str
    values: dict[str, str]  # the parameter, then the settings, in the order of the method's row

class _MethodRow(TypedDict):
    name: str
    wire_version: int
    coded: bool
    parameter: str
    min: float
    max: float
    example: str
    letter: str

class _Solution(TypedDict):
    choice: list[int]
    cost: float
    error: float
    lower_bound: float
    feasible: bool
    fallback_layers: list[int]

# budget.cc
def harm(budget: str, error: float, norm: float) -> float: ...

# levels.cc
def normalise_level(level: str, /) -> str: ...
def parse_level(level: str, /) -> _Level: ...
def method_table() -> list[_MethodRow]: ...
def plan_hash(levels: Sequence[tuple[str, str]], /) -> int: ...
def resolve(level: str, shape: Sequence[int], dtype: str = "fp32") -> str: ...
def neighbours(level: str, /) -> list[str]: ...
def mixed_levels(level: str, /) -> list[str]: ...
def candidates(
    reference: str, levels: Sequence[str], shape: Sequence[int], dtype: str, /
) -> list[str]: ...
def payload_bytes(level: str, shape: Sequence[int], /) -> int: ...
def elements_sent(level: str, shape: Sequence[int], /) -> float: ...

# codec.cc
def encode(
    values: npt.NDArray[np.float32], shape: Sequence[int], level: str, seed: int, step: int, /
) -> bytes: ...
def decode(payload: bytes, shape: Sequence[int], level: str, /) -> npt.NDArray[np.float32]: ...
def analyze(
    values: npt.NDArray[np.float32], shape: Sequence[int], levels: Sequence[str], pieces: int = 1
) -> list[float]: ...

# planner.cc
def solve(
    costs: Sequence[npt.NDArray[np.float64]],
    errors: Sequence[npt.NDArray[np.float64]],
    budget: float,
    reference: Sequence[int] | None,
    solver: str,
    /,
) -> _Solution: ...

# plans.cc
def solve_plan(
    rows: Sequence[dict[str, object]], budget: str, alpha: float, solver: str
) -> tuple[dict[str, object], bool]: ...

# network.cc
def wire_seconds(
    payload_bytes: float, collectives: int, ranks: int, bandwidth: float, latency: float
) -> float: ...
def collectives_of_bucket(has_two_rounds: bool, ranks: int) -> int: ...
def coding_seconds(encode: float, decode: float, ranks: int) -> float: ...
