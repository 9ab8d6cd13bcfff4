"""Writes src/kernels/lloyd_max_levels.inc: the Lloyd-Max levels of generalised normal laws.

python scripts/lloyd_max.py > src/kernels/lloyd_max_levels.inc

The laws have the density exp(-|x / a|^p) with p = 2 (normal), 1 (Laplace), 1/2 and 1/3 and unit
variance. Levels are symmetric; printed are the magnitudes of 1 to 8 bits, of which one bit is the
sign: 2^(bits - 1) without zero, then as many with zero as the first.
"""

from __future__ import annotations

from math import gamma, sqrt

import numpy as np

EXPONENTS = (2.0, 1.0, 1 / 2, 1 / 3)
POINTS = 1_000_000
ITERATIONS = 4000
PER_LINE = 6


def law(exponent: float) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes, in ascending order, and their probabilities."""
    unit = sqrt(gamma(1 / exponent) / gamma(3 / exponent))
    ends = unit * 50 ** (1 / exponent) * (np.arange(POINTS + 1) / POINTS) ** max(2, 1 / exponent)
    middles = (ends[1:] + ends[:-1]) / 2
    weights = np.exp(-((middles / unit) ** exponent)) * np.diff(ends)
    return middles, weights / weights.sum()


def lloyd_max(x: np.ndarray, weights: np.ndarray, count: int, *, has_zero: bool) -> np.ndarray:
    """Each level is the mean of the values that are nearest to it, but for a zero."""
    mass = np.concatenate([[0], np.cumsum(weights)])
    moment = np.concatenate([[0], np.cumsum(weights * x)])
    # Where many levels are best close to (Bennett): their density is the cube root of the law's.
    width = np.gradient(x)
    density = np.cumsum(np.cbrt(weights / width) * width)
    levels = np.arange(count) if has_zero else np.arange(count) + 0.5
    levels = np.interp(levels / (count - 0.5 if has_zero else count), density / density[-1], x)
    for _ in range(ITERATIONS):
        levels[0] *= not has_zero
        between = np.searchsorted(x, (levels[1:] + levels[:-1]) / 2)
        ends = np.concatenate([[0], between, [len(x)]])
        means = np.diff(moment[ends]) / np.diff(mass[ends])
        if np.abs(means - levels)[int(has_zero) :].max(initial=0) < 1e-9:
            break
        levels = means
    levels[0] *= not has_zero
    return levels.astype(np.float32)


def main() -> None:
    print("// Made by scripts/lloyd_max.py.")
    for exponent in EXPONENTS:
        x, weights = law(exponent)
        print(f"{{  // exponent {exponent:.4g}")
        for has_zero in (False, True):
            print(f"    {{  // {'with' if has_zero else 'without'} zero")
            levels = [
                lloyd_max(x, weights, 1 << (bits - 1), has_zero=has_zero) for bits in range(1, 9)
            ]
            texts = [f"{value:.9g}" for value in np.concatenate(levels)]
            texts = [text if {".", "e"} & set(text) else text + ".0" for text in texts]
            for at in range(0, len(texts), PER_LINE):
                print("        " + " ".join(f"{text}f," for text in texts[at : at + PER_LINE]))
            print("    },")
        print("},")


main()
