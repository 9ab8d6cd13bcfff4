"""What each level would do to each layer, from recorded gradients or a table in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lgreco import _core
from lgreco.arguments import require_text
from lgreco.cost_table import cost_table
from lgreco.errors import ConfigError
from lgreco.files import read_json, require_regular_file
from lgreco.methods import Dense, Method
from lgreco.methods import method as parse_method

Row = dict[str, object]  # one layer, with the fields of LevelRow in src/engine/plan_solver.h


def load_level_table(
    source: Path, reference: Method, candidates: Sequence[Method], ranks: int
) -> list[Row]:
    """From gradients as .npz, measured at the levels that the engine would choose from, or from a
    JSON table.

    `candidates`: for all layers; none: the neighbours of the reference. `ranks`: in how many pieces
    layers are compressed.

    Raises ConfigError saying what is wrong with the file.
    """
    if source.suffix == ".json":
        return _from_json(source, reference)
    try:
        gradients = _arrays_in(source)
    except Exception as error:  # NumPy and zipfile raise many types for a damaged file
        raise ConfigError(f"[cli] cannot read {source} as .npz gradients: {error}") from error
    spelled = [str(level) for level in candidates]
    return [_measured(name, g, str(reference), spelled, ranks) for name, g in gradients.items()]


def _arrays_in(source: Path) -> dict[str, np.ndarray]:
    loaded = np.load(require_regular_file(source), allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        raise ValueError("it holds one array without a name; numpy.savez writes them by name")
    with loaded as arrays:
        return {name: arrays[name] for name in arrays.files}


def _measured(
    name: str, gradient: np.ndarray, reference: str, candidates: list[str], ranks: int
) -> Row:
    layer = list(gradient.shape), "fp16" if gradient.dtype == np.float16 else "fp32"
    levels = _core.candidates(reference, candidates, *layer)
    table = cost_table({name: gradient}, [parse_method(level) for level in levels], pieces=ranks)
    return dict(
        name=name,
        levels=levels,
        bytes=table.costs[0].tolist(),
        errors=table.errors[0].tolist(),
        reference=levels.index(_core.resolve(reference, *layer)),
        norm=float(np.linalg.norm(gradient.astype(np.float64))),
        dense=len(levels) - 1,
    )


def _from_json(source: Path, reference: Method) -> list[Row]:
    values = read_json(source)
    try:
        names = [require_text("a name", name) for name in values["names"]]
        levels = [parse_method(spelling) for spelling in values["levels"]]
        costs = np.array(values["costs"], dtype=np.float64)
        errors = np.array(values["errors"], dtype=np.float64)
        norms = np.array(values["norms"], dtype=np.float64) if "norms" in values else None
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ConfigError(f"[cli] cannot read {source} as a cost table: {error}") from error
    if costs.shape != (len(names), len(levels)) or errors.shape != costs.shape:
        raise ConfigError(f"[cli] {source}: costs and errors must be layers x levels")
    if norms is not None and (norms.shape != (len(names),) or (norms < 0).any()):
        raise ConfigError(f"[cli] {source}: norms must be one number a layer, none negative")
    if reference not in levels:
        raise ConfigError(f"[cli] {source} has no column for the reference {reference}")
    return [
        dict(
            name=name,
            levels=[str(level) for level in levels],
            bytes=costs[row].tolist(),
            errors=errors[row].tolist(),
            reference=levels.index(reference),
            norm=None if norms is None else float(norms[row]),
            dense=levels.index(Dense()) if Dense() in levels else None,
        )
        for row, name in enumerate(names)
    ]
