"""Gradients recorded in training: what every measure is computed from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Window:
    """`layers` maps each name to float32 (steps, workers, *shape)."""

    layers: Mapping[str, np.ndarray]

    def mean(self) -> dict[str, np.ndarray]:
        """Over steps and workers: the gradient that levels are measured on."""
        return {name: gradients.mean(axis=(0, 1)) for name, gradients in self.layers.items()}

    @property
    def shapes(self) -> dict[str, list[int]]:
        return {name: list(gradients.shape[2:]) for name, gradients in self.layers.items()}

    def save(self, path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, **self.layers)

    @classmethod
    def load(cls, path: Path) -> Window:
        with np.load(path) as arrays:
            return cls({name: arrays[name] for name in arrays.files})
