"""Measures of harm: for each layer and level a number, to be summed over the layers.

Most need only the cost table of the mean gradient: `errors` (layers x levels) and the layers'
`norms`; their quotient is the relative error `eps`. The others simulate on the window itself.
Infinite means: never choose this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from experiments.budget_study.feedback import undelivered
from experiments.budget_study.window import Window
from experiments.budget_study.plans import table_of
from lgreco import CostTable, Method

Measure = Callable[["Evidence"], np.ndarray]
REPEATS = 3


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

    def simulated(self, rounds: int) -> np.ndarray:
        """(layers, levels, steps): the norm of what is owed after each step."""
        if rounds not in self._simulations:
            self._simulations[rounds] = self._simulate(rounds)
        return self._simulations[rounds]

    def __post_init__(self) -> None:
        self._simulations: dict[int, np.ndarray] = {}

    def _simulate(self, rounds: int) -> np.ndarray:
        steps = rounds * len(next(iter(self.window.layers.values())))
        owed = np.zeros((*self.table.errors.shape, steps))
        for row, name in enumerate(self.table.names):
            for column, level in enumerate(self.table.levels):
                if self.table.errors[row, column] > 0:
                    owed[row, column] = list(undelivered(self.window.layers[name], level, rounds))
        return owed


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


def debt(evidence: Evidence) -> np.ndarray:
    """Bound of what error feedback owes in the long run (Karimireddy et al. 2019), squared."""
    eps2 = np.minimum(evidence.eps**2, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        owed = eps2 / (1 - eps2) ** 2 * evidence.norms[:, None] ** 2
    return np.where(evidence.eps < 1, owed, np.inf)


def debt_root(evidence: Evidence) -> np.ndarray:
    return np.sqrt(debt(evidence))


def debt_of_noise(evidence: Evidence) -> np.ndarray:
    """What error feedback owes in the long run when consecutive gradients are independent."""
    eps2 = np.minimum(evidence.eps**2, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        owed = eps2 / (1 - eps2) * evidence.norms[:, None] ** 2
    return np.where(evidence.eps < 1, owed, np.inf)


def one_step(evidence: Evidence) -> np.ndarray:
    """Squared error of the mean of what the workers send, without error feedback's past."""
    return evidence.simulated(1)[:, :, 0] ** 2


def horizon(evidence: Evidence) -> np.ndarray:
    """Squared norm of what is owed at the end of the window."""
    return evidence.simulated(1)[:, :, -1] ** 2


def long_horizon(evidence: Evidence) -> np.ndarray:
    """As `horizon`, with the window repeated."""
    return evidence.simulated(REPEATS)[:, :, -1] ** 2


def relative(measure: Measure) -> Measure:
    """Layers weigh as their number of values, not as their gradient's norm."""

    def weighted(evidence: Evidence) -> np.ndarray:
        sizes = [gradients[0, 0].size for gradients in evidence.window.layers.values()]
        scale = np.array(sizes) / np.maximum(evidence.norms, np.finfo(float).tiny) ** 2
        return measure(evidence) * scale[:, None]

    return weighted


MEASURES: dict[str, Measure] = {
    "norm": norm,
    "squared": squared,
    "capped0.8": capped(0.8),
    "capped0.9": capped(0.9),
    "debt": debt,
    "debt_root": debt_root,
    "debt_of_noise": debt_of_noise,
    "one_step": one_step,
    "horizon": horizon,
    "long_horizon": long_horizon,
    "relative_squared": relative(squared),
    "relative_debt": relative(debt),
    "relative_horizon": relative(horizon),
}
