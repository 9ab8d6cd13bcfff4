#!/usr/bin/env python3
"""Writes src/kernels/run_level_codes.inc, the code lengths that the method `entropy` stands on.

The file is part of the wire format: another one is another wire version. The tables are made for a
memoryless source with zeros of probability p0 and values of a generalised normal law,
exp(-|x|^shape), behind a dead-zone quantiser. Plain Python, so that it runs anywhere.
"""

from __future__ import annotations

import bisect
import math
import sys
from pathlib import Path

SHAPES = (2.0, 1.0, 0.6, 0.35)
ZERO_SHARES = [1 / (1 + math.exp(2 - 8.5 * k / 15)) for k in range(16)]
RUN_CLASSES, LEVEL_CLASSES = 26, 22
ESCAPED_BITS = 11  # both classes, plainly
LONGEST = 12
DIGITS_PER_LINE = 88


def class_range(index: int) -> tuple[int, int]:
    """The numbers of a class, half-open: 0, 1, 2, 3, 4-5, 6-7, 8-11, 12-15, 16-23, ..."""
    if index < 2:
        return index, index + 1
    size = 1 << ((index >> 1) - 1)
    first = (2 + (index & 1)) * size
    return first, first + size


class Law:
    """The magnitudes of a generalised normal law, by the trapezoidal rule on a fine grid."""

    def __init__(self, shape: float) -> None:
        cells = 40_000
        low, high = 1e-6, 60 ** (1 / shape)
        self._points = [low * (high / low) ** (i / cells) for i in range(cells + 1)]
        density = [math.exp(-(x**shape)) for x in self._points]
        self._below = [low]
        for i in range(cells):
            width = self._points[i + 1] - self._points[i]
            self._below.append(self._below[-1] + width * (density[i] + density[i + 1]) / 2)

    def share_below(self, x: float) -> float:
        if x >= self._points[-1]:
            return 1.0
        if x <= self._points[0]:
            return x / self._below[-1]
        i = bisect.bisect_right(self._points, x) - 1
        part = (x - self._points[i]) / (self._points[i + 1] - self._points[i])
        mass = self._below[i] + part * (self._below[i + 1] - self._below[i])
        return mass / self._below[-1]

    def quantile(self, share: float) -> float:
        low, high = 0.0, self._points[-1]
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if self.share_below(middle) < share else (low, middle)
        return high


def dead_zone(zero_share: float) -> float:
    """Values below this many steps become zero."""
    return 0.5 if zero_share < 0.3 else 0.5 + 0.2 * min(1.0, (zero_share - 0.3) / 0.6)


def level_shares(law: Law, zero_share: float) -> list[float]:
    """The share of each class among the levels, of which class 0 is a magnitude of one."""
    zone = dead_zone(zero_share)
    step = law.quantile(zero_share) / zone
    shares = []
    for index in range(LEVEL_CLASSES):
        first, end = class_range(index)
        inside = law.share_below((end + zone) * step) - law.share_below((first + zone) * step)
        shares.append(max(inside, 0.0) / (1 - zero_share))
    return shares


def run_shares(zero_share: float) -> list[float]:
    return [
        zero_share**first - zero_share**end
        for first, end in (class_range(index) for index in range(RUN_CLASSES))
    ]


def limited_lengths(weights: list[float], longest: int) -> list[int]:
    """Lengths of the best prefix code with no word longer than that (package-merge)."""
    items = sorted((weight, (i,)) for i, weight in enumerate(weights))
    packages: list[tuple[float, tuple[int, ...]]] = []
    for _ in range(longest):
        merged = sorted(packages + items)
        packages = [
            (merged[i][0] + merged[i + 1][0], merged[i][1] + merged[i + 1][1])
            for i in range(0, len(merged) - 1, 2)
        ]
    lengths = [0] * len(weights)
    for _, members in packages[: len(weights) - 1]:
        for i in members:
            lengths[i] += 1
    return lengths


def table_of(law: Law, zero_share: float) -> str:
    """A hexadecimal digit for each symbol, run class by run class, then one for the escape."""
    shares = [
        run * level for run in run_shares(zero_share) for level in level_shares(law, zero_share)
    ]
    coded = [i for i, share in enumerate(shares) if share >= 2.0 ** -(LONGEST + 0.5)]
    escaped = max(1 - sum(shares[i] for i in coded), 2.0**-LONGEST)
    lengths = limited_lengths([*(shares[i] for i in coded), escaped], LONGEST)
    digits = ["0"] * len(shares) + [f"{lengths[-1]:x}"]
    for i, length in zip(coded, lengths, strict=False):
        digits[i] = f"{length:x}"
    return "".join(digits)


def main() -> None:
    lines = ["// Written by scripts/run_level_codes.py."]
    for shape in SHAPES:
        law = Law(shape)
        for zero_share in ZERO_SHARES:
            table = table_of(law, zero_share)
            lines.append(f"// shape {shape}, zeros {zero_share:.4f}")
            starts = range(0, len(table), DIGITS_PER_LINE)
            parts = [table[i : i + DIGITS_PER_LINE] for i in starts]
            lines.extend(f'"{part}"' for part in parts)
            lines[-1] += ","
    path = Path(__file__).parents[1] / "src/kernels/run_level_codes.inc"
    path.write_text("\n".join(lines) + "\n")
    sys.stdout.write(f"{path.name}: {len(SHAPES) * len(ZERO_SHARES)} tables\n")


if __name__ == "__main__":
    main()
