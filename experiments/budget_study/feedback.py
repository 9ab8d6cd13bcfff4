"""Error feedback of one layer, simulated on recorded gradients of all workers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lgreco import Method, PowerSGD, decode, encode


def owed(gradients: np.ndarray, level: Method, rounds: int = 1) -> Iterator[np.ndarray]:
    """After each step, what the mean gradient has not delivered yet; the window is repeated.

    `gradients` is (steps, workers, *shape).
    """
    exchange = _LowRank(level, gradients) if isinstance(level, PowerSGD) else _Coded(level)
    by_worker = np.zeros_like(gradients[0])
    for step in range(rounds * len(gradients)):
        by_worker = exchange(by_worker + gradients[step % len(gradients)], step)
        yield exchange.total_owed(by_worker)


class _Coded:
    """Every worker sends its code; the mean of the decoded is coded again by who owns it."""

    def __init__(self, level: Method) -> None:
        self.level = level
        self.owner_owes = 0.0

    def __call__(self, corrected: np.ndarray, step: int) -> np.ndarray:
        sent = np.stack([self._through(one, worker, step) for worker, one in enumerate(corrected)])
        mean = sent.mean(axis=0) + self.owner_owes
        self.owner_owes = mean - self._through(mean, len(corrected), step)
        return corrected - sent

    def total_owed(self, by_worker: np.ndarray) -> np.ndarray:
        return by_worker.mean(axis=0) + self.owner_owes

    def _through(self, array: np.ndarray, seed: int, step: int) -> np.ndarray:
        array = array.astype(np.float32)
        return decode(encode(array, self.level, seed, step), array.shape, self.level)


class _LowRank:
    """One iteration a step from the factor of the step before, on the mean of the workers."""

    def __init__(self, level: PowerSGD, gradients: np.ndarray) -> None:
        matrix = gradients[0, 0].reshape(len(gradients[0, 0]), -1)
        rank = min(level.rank, *matrix.shape)
        self.right = np.random.default_rng(0).standard_normal((matrix.shape[1], rank))

    def __call__(self, corrected: np.ndarray, step: int) -> np.ndarray:
        mean = corrected.mean(axis=0)
        matrix = mean.reshape(len(mean), -1)
        left = np.linalg.qr(matrix @ self.right)[0]
        self.right = matrix.T @ left
        return corrected - (left @ self.right.T).reshape(mean.shape)

    def total_owed(self, by_worker: np.ndarray) -> np.ndarray:
        return by_worker.mean(axis=0)
