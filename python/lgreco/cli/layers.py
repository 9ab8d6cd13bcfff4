"""Layer names and shapes from what a user has: JSON, a checkpoint, or code."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from lgreco.arguments import require_shape, require_text, shown
from lgreco.errors import ConfigError, StateError
from lgreco.files import read_json, require_regular_file

Shapes = dict[str, list[int]]


def load_shapes(source: str) -> Shapes:
    """From a JSON file `{name: shape}`, a torch checkpoint, or `module:factory`.

    Raises ConfigError saying what was expected.
    """
    path = Path(source)
    if path.suffix == ".json":
        return _from_json(path)
    if path.exists():
        return _from_checkpoint(path)
    if ":" in source:
        return _from_factory(source)
    raise ConfigError(
        f"[cli] {source}: no such file; give JSON {{name: shape}}, a checkpoint, or module:factory"
    )


def _from_json(path: Path) -> Shapes:
    shapes = read_json(path)
    if not isinstance(shapes, dict):
        raise ConfigError(f"[cli] {path} is not JSON of the form {{name: [extent, ...]}}")
    return {
        require_text(f"[cli] {path}: a name", name): require_shape(
            f"[cli] {path}: the shape of {shown(name)}", shape
        )
        for name, shape in shapes.items()
    }


def _from_checkpoint(path: Path) -> Shapes:
    import torch

    try:
        content = torch.load(require_regular_file(path), map_location="cpu", weights_only=True)
    except StateError:
        raise
    except Exception as error:  # torch raises many types for a file that is no checkpoint
        raise ConfigError(f"[cli] {path} is no checkpoint of plain tensors: {error}") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ConfigError(f"[cli] {path} holds no mapping of names to tensors")
    # Buffers, such as batch-norm statistics, have no gradient.
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    shapes = {
        name: list(value.shape)
        for name, value in content.items()
        if isinstance(value, torch.Tensor) and not name.endswith(buffers)
    }
    if not shapes:
        raise ConfigError(f"[cli] {path} holds no tensors at its top level")
    return shapes


def _from_factory(source: str) -> Shapes:
    module_name, _, factory = source.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        model = getattr(importlib.import_module(module_name), factory)()
        return {n: list(p.shape) for n, p in model.named_parameters() if p.requires_grad}
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"[cli] {source}: cannot call it to get a torch.nn.Module: {error}"
        ) from error
    finally:
        sys.path.pop(0)
