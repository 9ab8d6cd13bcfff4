"""Measures of harm: for each layer and level a number, to be summed over the layers.

Most need only the cost table of the mean gradient: `errors` (layers x levels) and the layers'
`norms`; their quotient is the relative error `eps`. The others simulate on the window itself.
Infinite means: never choose this.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from experiments.budget_study.feedback import owed
from experiments.budget_study.plans import table_of
from experiments.budget_study.window import Window
from lgreco import Cast, CostTable, Method, Quantize

Measure = Callable[["Evidence"], np.ndarray]
REPEATS = 3
STEPS = 30
NOISE_WEIGHT = 0.03


@dataclass(frozen=True)
class Simulation:
    """What is owed: its norm after the first and the last step, and then along the gradient.

    All are (layers, levels); `along` is the inner product with the mean gradient.
    """

    first: np.ndarray
    last: np.ndarray
    along: np.ndarray


@dataclass
class Evidence:
    """What is known of a model: its cost table, the layers' gradient norms, the window."""

    table: CostTable
    norms: np.ndarray
    window: Window

    @classmethod
    def of(cls, window: Window, levels: list[Method]) -> Evidence:
        mean = window.mean()
        norms = np.array([np.linalg.norm(gradient) for gradient in mean.values()])
        return cls(table_of(mean, levels), norms, window)

    @property
    def eps(self) -> np.ndarray:
        return self.table.errors / np.maximum(self.norms, np.finfo(float).tiny)[:, None]

    def simulated(self, rounds: int) -> Simulation:
        """Error feedback over the window, `rounds` times."""
        if rounds not in self._simulations:
            self._simulations[rounds] = self._simulate(rounds)
        return self._simulations[rounds]

    def __post_init__(self) -> None:
        self._simulations: dict[int, Simulation] = {}

    def _simulate(self, rounds: int) -> Simulation:
        shape = self.table.errors.shape
        found = Simulation(np.zeros(shape), np.zeros(shape), np.zeros(shape))
        for row, name in enumerate(self.table.names):
            gradients = self.window.layers[name]
            mean = gradients.mean(axis=(0, 1))
            for column, level in enumerate(self.table.levels):
                if self.table.errors[row, column] > 0:
                    steps = list(owed(gradients, level, rounds))
                    found.first[row, column] = np.linalg.norm(steps[0])
                    found.last[row, column] = np.linalg.norm(steps[-1])
                    found.along[row, column] = np.vdot(steps[-1], mean)
        return found


def norm(evidence: Evidence) -> np.ndarray:
    """The paper's."""
    return evidence.table.errors


def squared(evidence: Evidence) -> np.ndarray:
    return evidence.table.errors**2


def capped(limit: float) -> Measure:
    """Squared, and no level that loses more than `limit` of a layer."""

    def measure(evidence: Evidence) -> np.ndarray:
        return np.where(evidence.eps > limit, np.inf, squared(evidence))

    return measure


def debt_bound(evidence: Evidence) -> np.ndarray:
    """Bound of what error feedback owes in the long run (Karimireddy et al. 2019), squared."""
    eps2 = np.minimum(evidence.eps**2, 1.0)
    with np.errstate(divide="ignore"):
        return eps2 / (1 - eps2) ** 2 * evidence.norms[:, None] ** 2


def debt_bound_root(evidence: Evidence) -> np.ndarray:
    return np.sqrt(debt_bound(evidence))


def debt_of_noise(evidence: Evidence) -> np.ndarray:
    """What error feedback owes in the long run when consecutive gradients are independent."""
    eps2 = np.minimum(evidence.eps**2, 1.0)
    with np.errstate(divide="ignore"):
        return eps2 / (1 - eps2) * evidence.norms[:, None] ** 2


def debt_within(steps: int) -> Measure:
    """What is owed after so many steps, of independent gradients: between `squared` and
    `debt_of_noise`, and finite for a level that sends nothing.
    """

    def measure(evidence: Evidence) -> np.ndarray:
        powers = sum(evidence.eps ** (2 * step) for step in range(1, steps + 1))
        return powers * evidence.norms[:, None] ** 2

    return measure


def one_step(evidence: Evidence) -> np.ndarray:
    """Squared error of the mean of what the workers send, without error feedback's past."""
    return evidence.simulated(1).first ** 2


def horizon(evidence: Evidence) -> np.ndarray:
    """Squared norm of what is owed at the end of the window."""
    return evidence.simulated(1).last ** 2


def long_horizon(evidence: Evidence) -> np.ndarray:
    """As `horizon`, with the window repeated."""
    return evidence.simulated(REPEATS).last ** 2


def lag(rounds: int) -> Measure:
    """Descent that is still owed: the inner product of what is owed with the mean gradient.

    What is owed in random directions, as by unbiased rounding, counts as much as chance has it.
    """

    def measure(evidence: Evidence) -> np.ndarray:
        simulated = evidence.simulated(rounds)
        return np.maximum(simulated.along, by_chance(evidence, simulated.last))

    return measure


def geometric_lag(evidence: Evidence) -> np.ndarray:
    """`lag` from `eps` alone.

    Low rank and top-k: each of `STEPS` steps delivers 1 - eps^2 of what is owed of a constant
    gradient. Rounding: chance, at the size where the range of what is owed settles.
    """
    kept = np.minimum(evidence.eps**2, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.where(kept < 1, kept * (1 - kept**STEPS) / (1 - kept), STEPS)
    harm = steps * evidence.norms[:, None] ** 2
    settled = np.where(evidence.table.errors > 0, evidence.table.errors, np.nan)
    settled = settled * [growth(level) for level in evidence.table.levels]
    harm = np.where(is_rounding(evidence), by_chance(evidence, settled), harm)
    return np.where(evidence.table.errors > 0, harm, 0.0)


def energy(norm_power: float, root: bool = False) -> Measure:
    """Share of a layer's energy that is lost, times a power of its gradient's norm.

    Low rank and top-k: eps^2, which sending nothing brings to 1. Rounding is noise, which costs
    `NOISE_WEIGHT` of the energy at which what is owed settles.
    """

    def measure(evidence: Evidence) -> np.ndarray:
        share = np.minimum(evidence.eps**2, 1.0)
        settled = np.where(evidence.eps > 0, evidence.eps, np.nan)
        settled = (settled * [growth(level) for level in evidence.table.levels]) ** 2
        lost = np.where(is_rounding(evidence), NOISE_WEIGHT * settled, share)
        lost = np.where(evidence.eps > 0, lost, 0.0)
        return (np.sqrt(lost) if root else lost) * evidence.norms[:, None] ** norm_power

    return measure


def is_rounding(evidence: Evidence) -> np.ndarray:
    """Of each level."""
    return np.array([isinstance(level, Cast | Quantize) for level in evidence.table.levels])


def growth(level: Method) -> float:
    """How much larger than one step's error what rounding owes becomes; infinite for one bit.

    What is owed has up to twice the range of a unit, and widens the next range by as much.
    """
    if not isinstance(level, Quantize):
        return 1.0
    units = 2**level.bits - 1
    return 1 / (1 - 2 / units) if units > 2 else np.inf


def by_chance(evidence: Evidence, owed_norms: np.ndarray) -> np.ndarray:
    """Size of the inner product of the gradients with random vectors of these norms."""
    sizes = np.array([math.prod(shape) for shape in evidence.window.shapes.values()])
    return np.where(owed_norms > 0, owed_norms * (evidence.norms / np.sqrt(sizes))[:, None], 0.0)


MEASURES: dict[str, Measure] = {
    "norm": norm,
    "squared": squared,
    "capped0.8": capped(0.8),
    "capped0.9": capped(0.9),
    "debt_bound": debt_bound,
    "debt_bound_root": debt_bound_root,
    "debt_of_noise": debt_of_noise,
    "debt": debt_within(3),  # the library's
    "debt10": debt_within(10),
    "one_step": one_step,
    "horizon": horizon,
    "long_horizon": long_horizon,
    "lag": lag(REPEATS),
    "short_lag": lag(1),
    "geometric_lag": geometric_lag,
    "energy": energy(1),
    "energy_share": energy(0),
    "energy_root": energy(1, root=True),
}
