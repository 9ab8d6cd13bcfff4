"""The stubs of the extension modules say what the modules have: the same names and parameters."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch  # noqa: F401 (its libraries, which _torch needs)

PACKAGE = Path(__file__).resolve().parents[1] / "lgreco"
MODULES = ["_core", "_torch"]
Parameters = dict[str, list[str] | None]  # by dotted name; None: of an attribute, not a function


def in_stub(name: str) -> Parameters:
    tree = ast.parse((PACKAGE / f"{name}.pyi").read_text(encoding="utf-8"))
    found: Parameters = {}
    add_from_stub(tree.body, "", found)
    return found


def add_from_stub(body: list[ast.stmt], prefix: str, found: Parameters) -> None:
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[prefix + node.target.id] = None
        elif isinstance(node, ast.FunctionDef):
            given = node.args
            found[prefix + node.name] = [a.arg for a in given.args + given.kwonlyargs]
            # A name in a stub helps to read it; one that the module does not know cannot be used.
            if given.posonlyargs:
                found[prefix + node.name] = [f"arg{i}" for i in range(len(given.posonlyargs))]
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):  # shapes of dicts
            found[prefix + node.name] = None
            add_from_stub(node.body, f"{prefix}{node.name}.", found)


def in_module(module: ModuleType) -> Parameters:
    found: Parameters = {}
    add_from_module(module, "", found)
    return found


def add_from_module(owner: object, prefix: str, found: Parameters) -> None:
    for name, value in vars(owner).items():
        if name.startswith("_") and name not in {"__version__", "__init__"}:
            continue
        found[prefix + name] = parameters_of(name, value)
        if isinstance(value, type):
            add_from_module(value, f"{prefix}{name}.", found)


def parameters_of(name: str, value: object) -> list[str] | None:
    """As pybind11 writes them into the docstring's first line: `f(self: C, a: int = 1) -> C`."""
    if not callable(value) or isinstance(value, type):
        return None
    signature = re.match(rf"{name}\((.*)\) ->", value.__doc__ or "")
    assert signature, f"{name} has no signature in its docstring"
    return re.findall(r"(?:^|, )(\w+): ", signature[1])


@pytest.mark.parametrize("name", MODULES)
def test_stub_and_module_have_the_same_names_and_parameters(name: str) -> None:
    stub, module = in_stub(name), in_module(importlib.import_module(f"lgreco.{name}"))
    assert stub.keys() - module.keys() == set(), "only in the stub"
    assert module.keys() - stub.keys() == set(), "missing in the stub"
    assert stub == module


def test_installed_package_has_types() -> None:
    installed = Path(importlib.import_module("lgreco").__file__).parent
    for name in ("py.typed", "_core.pyi", "_torch.pyi"):
        assert (installed / name).exists(), f"{name} is not installed"
