"""What each level would do to each layer, from recorded gradients or a table in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lgreco import _core
from lgreco.codec import payload_bytes
from lgreco.cost_table import CostTable, cost_table
from lgreco.errors import ConfigError
from lgreco.methods import Dense, Method
from lgreco.methods import method as parse_method


@dataclass(frozen=True)
class LevelTable:
    """Rows are layers, columns are levels.

    Attributes:
        costs: bytes and errors (L2 norms) of each level.
        resolved: per layer, what each level comes to there: dense where it does not suit.
        norms: of the layers; None when the file does not say.
        dense_bytes: of each layer; None when the file does not say.
    """

    costs: CostTable
    resolved: list[list[Method]]
    norms: np.ndarray | None
    dense_bytes: np.ndarray | None

    def harms(self, budget: str, reference: int) -> np.ndarray:
        """The errors as `budget` counts them, for a plan under the column `reference`.

        A level that loses as much of a layer as sending nothing is no choice, unless it is the
        reference. Raises ConfigError on an unknown budget.
        """
        layers = len(self.costs.names)
        norms = np.full(layers, np.inf) if self.norms is None else self.norms
        harms = np.array(
            [
                [_core.harm(budget, error, norm) for error in row]
                for row, norm in zip(self.costs.errors, norms, strict=True)
            ]
        ).reshape(self.costs.errors.shape)
        diverges = self.costs.errors >= norms[:, None]
        diverges[:, reference] = False
        return np.where(diverges, np.inf, harms)


def load_level_table(
    source: Path, reference: Method, candidates: Sequence[Method], ranks: int
) -> LevelTable:
    """From gradients as .npz, measured at the reference and the candidates, or from a JSON table.

    `ranks`: in how many pieces layers are compressed.

    Raises ConfigError saying what is wrong with the file.
    """
    if source.suffix == ".json":
        return _from_json(source)
    try:
        gradients = _arrays_in(source)
    except Exception as error:  # NumPy and zipfile raise many types for a damaged file
        raise ConfigError(f"[cli] cannot read {source} as .npz gradients: {error}") from error
    return _measured(gradients, list(dict.fromkeys([reference, *candidates])), ranks)


def _arrays_in(source: Path) -> dict[str, np.ndarray]:
    loaded = np.load(source, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        raise ValueError("it holds one array without a name; numpy.savez writes them by name")
    with loaded as arrays:
        return {name: arrays[name] for name in arrays.files}


def _measured(gradients: dict[str, np.ndarray], levels: list[Method], ranks: int) -> LevelTable:
    table = cost_table(gradients, levels, pieces=ranks)
    shapes = [list(gradient.shape) for gradient in gradients.values()]
    dense = np.array([payload_bytes(Dense(), shape) for shape in shapes], dtype=np.float64)
    resolved = [
        [parse_method(_core.resolve(str(level), shape)) for level in levels] for shape in shapes
    ]
    for row, methods in enumerate(resolved):
        for column, method in enumerate(methods):
            if method == Dense():
                table.costs[row, column] = dense[row]
                table.errors[row, column] = 0
    norms = np.array([np.linalg.norm(g.astype(np.float64)) for g in gradients.values()])
    return LevelTable(table, resolved, norms, dense)


def _from_json(source: Path) -> LevelTable:
    try:
        values = json.loads(source.read_text(encoding="utf-8"))
        names = [str(name) for name in values["names"]]
        levels = [parse_method(spelling) for spelling in values["levels"]]
        costs = np.array(values["costs"], dtype=np.float64)
        errors = np.array(values["errors"], dtype=np.float64)
        norms = np.array(values["norms"], dtype=np.float64) if "norms" in values else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"[cli] cannot read {source} as a cost table: {error!r}") from error
    if costs.shape != (len(names), len(levels)) or errors.shape != costs.shape:
        raise ConfigError(f"[cli] {source}: costs and errors must be layers x levels")
    if norms is not None and (norms.shape != (len(names),) or (norms < 0).any()):
        raise ConfigError(f"[cli] {source}: norms must be one number a layer, none negative")
    dense = costs[:, levels.index(Dense())] if Dense() in levels else None
    return LevelTable(CostTable(names, levels, costs, errors), [levels] * len(names), norms, dense)
