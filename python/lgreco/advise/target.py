"""What is probed, as the command line names it. Needs no torch."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lgreco.errors import ConfigError


def is_factory(target: str) -> bool:
    return ":" in target and not target.endswith(".py")


def check_target(target: str, arguments: Sequence[str]) -> None:
    """Without running anything. Raises ConfigError saying what is wrong."""
    if is_factory(target):
        if arguments:
            raise ConfigError(
                f"[advise] a factory takes no arguments, but there are: {' '.join(arguments)}"
            )
    elif target.endswith(".py"):
        if not Path(target).is_file():
            raise ConfigError(f"[advise] {target}: no such file")
    elif _spec(target) is None:
        raise ConfigError(
            f"[advise] {target}: no such module; give a script, a module, or module:factory"
        )


def _spec(module: str) -> object:
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    finally:
        sys.path.pop(0)
