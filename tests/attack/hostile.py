"""Values that nobody should pass."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

import lgreco


def _recursive() -> list[Any]:
    values: list[Any] = []
    values.append(values)
    return values


def _deep(depth: int = 5_000) -> list[Any]:
    values: list[Any] = []
    for _ in range(depth):
        values = [values]
    return values


VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 2**31, 2**62, 2**63, 2**64, -(2**63), 2**1000,
    0.0, -0.0, 0.5, 1e308, 1e-320, float("nan"), float("inf"), -float("inf"), 1j,
    "", " ", "a", "low_rank:4", "low_rank:-1", "quantize:4:bucket=99999999999999999999", ":",
    "::::", "topk:1e-400", "topk:nan", "entropy:inf", "quantize:2+", "x" * 100_000, "\0", "a\nb",
    "[/x]", "\x1b[31m", "\ud800", "$\\frac{$", "../../etc",
    b"", b"\0", b"\xff" * 64, bytearray(8), memoryview(b"12345678"), memoryview(bytes(64))[::2],
    (), [], {}, set(), [None], [[]], [0], [-1], [2**62, 2**62], (2**62, 0), [1, 2, 3], [1.5], ["a"],
    {"a": None}, {None: None}, {"a": "dense"}, {"a": lgreco.Dense()}, {"\ud800": "dense"}, {0: 0},
    {"": []}, range(3), range(10**18), iter([1]), object(), object, len, _recursive(), _deep(),
    np.float32(1), np.int64(-1), np.zeros(0, np.float32), np.zeros(3, np.float32),
    np.zeros((2, 0, 3), np.float32), np.full(4, np.nan, np.float32), np.full(4, 1e300),
    np.zeros(3, object), np.zeros(3, complex), np.zeros(3, "U4"), np.zeros(3, "datetime64[s]"),
    np.zeros((), np.float32), np.ones((4, 4), np.float32).T, np.zeros(3, ">f4"),
    np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (1000,), (0,)),
    np.zeros(4, np.bool_), np.zeros(3, [("x", "f4")]), lgreco.Quantize(4), lgreco.PowerSGD(2),
    lgreco.Uniform(), lgreco.Quantize, lgreco.LGreCo(every=10),
)  # fmt: skip


def value(random_numbers: random.Random) -> Any:
    """One of VALUES, or a container of some."""
    kind = random_numbers.random()
    if kind < 0.8:
        return random_numbers.choice(VALUES)
    some = [random_numbers.choice(VALUES) for _ in range(random_numbers.randrange(4))]
    if kind < 0.9:
        return some
    names = [random_numbers.choice(("a", "b.weight", "\0", "", "x" * 300)) for _ in some]
    return dict(zip(names, some, strict=True))


def text_of(argument: Any) -> str:
    try:
        return f"{type(argument).__name__} {argument!r}"[:120]
    except RecursionError:
        return f"deep {type(argument).__name__}"
