"""The layers of the code, as docs/design.md draws them: dependencies point down only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)

# What the sources of each module may include: modules of src/ below it ...
MODULES_BELOW = {
    "base": set(),
    "kernels": {"base"},
    "compressors": {"kernels", "base"},
    "planner": {"base"},
    "comm": {"base"},
    "engine": {"compressors", "planner", "comm", "kernels", "base"},
}
# ... and of the public headers, all of them unless listed: the planner knows numbers only, the
# communicator bytes only, kernels arrays only, and a compressor no network.
PUBLIC_HEADERS = {
    "compressors": {"codec", "compressor", "dtype", "layer", "level", "method", "status"},
    "planner": {"budget", "planner", "status"},
    "comm": {"communicator", "process", "status"},
    "kernels": {"dtype", "layer", "status"},
}
FOREIGN = re.compile(
    r"^(torch|ATen|c10|caffe2|pybind11|nccl|cuda|mpi|Python)\b|^(adaptors|python|experiments)/",
    re.IGNORECASE,
)
THIRD_PARTY = re.compile(r"^(hwy/|Eigen/|xxhash\.h$)")


def sources(*folders: str) -> list[Path]:
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".h", ".cc"}
    )


def includes(path: Path) -> Iterator[tuple[str, str]]:
    """Pairs of ('<' or '"', what is included)."""
    yield from INCLUDE.findall(path.read_text(encoding="utf-8"))


def is_test(path: Path) -> bool:
    return path.stem.endswith(("_test", "_benchmark"))


def below(module: str, target: str) -> bool:
    """Whether `module` may include the project's own file `target`."""
    folder, _, name = target.rpartition("/")
    if folder == "lgreco":
        return name.removesuffix(".h") in PUBLIC_HEADERS.get(module, {name.removesuffix(".h")})
    return folder == f"src/{module}" or folder.removeprefix("src/") in MODULES_BELOW[module]


def test_every_module_has_its_rule() -> None:
    folders = {path.name for path in (ROOT / "src").iterdir() if path.is_dir()}
    assert folders == set(MODULES_BELOW)


@pytest.mark.parametrize("module", sorted(MODULES_BELOW))
def test_module_depends_only_downward(module: str) -> None:
    files = [path for path in sources(f"src/{module}") if not is_test(path)]
    assert files, f"src/{module} has no sources"
    upward = [
        f"{path.relative_to(ROOT)} includes {target}"
        for path in files
        for bracket, target in includes(path)
        if bracket == '"' and not THIRD_PARTY.search(target) and not below(module, target)
    ]
    assert not upward, "\n".join(upward)


def test_core_includes_no_foreign_framework() -> None:
    foreign = [
        f"{path.relative_to(ROOT)} includes {target}"
        for path in sources("include", "src")
        for _, target in includes(path)
        if FOREIGN.search(target)
    ]
    assert not foreign, "\n".join(foreign)


def test_public_headers_need_only_the_standard_library() -> None:
    headers = sources("include")
    assert headers, "no public headers found"
    wrong = [
        f"{path.relative_to(ROOT)} includes {target}"
        for path in headers
        for bracket, target in includes(path)
        if not (
            re.fullmatch(r"[a-z_]+", target) if bracket == "<" else target.startswith("lgreco/")
        )
    ]
    assert not wrong, "\n".join(wrong)
