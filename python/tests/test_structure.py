"""The layers of the code, as docs/design.md draws them: dependencies point down only."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)

# What the sources of each module may include: modules of src/ below it ...
MODULES_BELOW = {
    "base": set(),
    "kernels": {"base"},
    "compressors": {"kernels", "base"},
    "device": {"compressors", "kernels", "base"},
    "planner": {"base"},
    "comm": {"base"},
    "engine": {"compressors", "planner", "comm", "kernels", "base"},
}
# ... and of the public headers, all of them unless listed: the planner knows numbers only, the
# communicator bytes only, kernels arrays only, and a compressor no network.
PUBLIC_HEADERS = {
    "compressors": {"codec", "compressor", "dtype", "layer", "level", "method", "status"},
    "planner": {"budget", "planner", "status"},
    "comm": {"communicator", "gather_by_node", "process", "status"},
    "kernels": {"dtype", "layer", "status"},
    "device": set(),
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
        if path.suffix in {".h", ".cc", ".cu"}
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


DEVICE = re.compile(r"__device__|__global__|__CUDA\w*__|\bcuda[A-Z]\w*")


def test_only_one_line_of_the_core_knows_compilers_of_devices() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {line}"
        for path in sources("include", "src")
        for line in path.read_text(encoding="utf-8").splitlines()
        if DEVICE.search(line)
    }
    assert found == {
        "src/kernels/format.h: #ifdef __CUDACC__",
        "src/kernels/format.h: #define LGRECO_HD __host__ __device__",
    }


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


# The engine from bottom to top, by names of files without .h and .cc: a file includes only its own
# header and files of the rows before its own, so that no includes go round in circles, either.
ENGINE = (
    {
        "accounts", "checkpoint", "codec_rates", "failure", "frame", "gather", "place",
        "plan", "policy", "queue", "residual", "shard_layout", "trace", "under_way", "worker_pool",
    },
    {
        "checkpoint_file", "layer_record", "membership", "messages", "network_probe",
        "plan_solver", "registration", "resize", "schedule", "sum",
    },
    {
        "agreement", "background_job", "cost_table", "exchange", "gathered_sum", "host_layer",
        "memory_use", "portable_state", "regimes", "sharded_sum", "state_check",
    },
    {"exchange_cache", "host_values", "plan_round"},
    {"planning"},
    {"run_state"},
    {"state_rounds", "step"},
    {"pipeline"},
    {"aggregator"},
)  # fmt: skip


def engine_files() -> list[Path]:
    return [path for path in sources("src/engine") if not is_test(path)]


def test_every_file_of_the_engine_has_its_rank() -> None:
    assert {path.stem for path in engine_files()} == set().union(*ENGINE)


def test_files_of_the_engine_include_only_lower_ones() -> None:
    """By its header in src/engine or, where a public one declares what a file defines, by that."""
    rank = {stem: row for row, stems in enumerate(ENGINE) for stem in stems}
    wrong = []
    for path in engine_files():
        for _, target in includes(path):
            folder, _, name = target.rpartition("/")
            other = name.removesuffix(".h")
            if folder not in {"src/engine", "lgreco"} or other == path.stem or other not in rank:
                continue
            if rank[other] >= rank[path.stem]:
                wrong.append(f"{path.name} includes {target}")
    assert not wrong, "\n".join(wrong)


def test_no_headers_include_each_other_in_circles() -> None:
    headers = [
        path
        for path in sources("include", "src", "adaptors", "python/bindings")
        if path.suffix == ".h"
    ]
    graph = {
        str(path.relative_to(ROOT)).removeprefix("include/"): {t for _, t in includes(path)}
        for path in headers
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" includes ".join(reversed(error.args[1])))


# A file or class that does more than one thing is long before it is wrong.
MOST_LINES = {"file": 400, "class": 250}
CLASS = re.compile(r"\s*(?:class|struct)\s+(?:[\w:]+::)?(\w+)[^;()]*\{")
MEMBER = re.compile(r"[^\s/}].*?\b(\w+)::~?[\w=!<>\[\]() ]+\(")


def lines_of_block(lines: list[str]) -> int:
    """From the first line to the brace that closes what it opens; 0 for a declaration."""
    depth, opened = 0, False
    for count, line in enumerate(lines, start=1):
        code = line.split("//")[0]
        opened = opened or "{" in code
        depth += code.count("{") - code.count("}")
        if opened and depth <= 0:
            return count
        if not opened and code.rstrip().endswith(";"):
            return 0
    return 0


def lines_of_classes(files: list[Path]) -> Counter[str]:
    """Declaration and definitions of members together, wherever they stand."""
    lines_of: Counter[str] = Counter()
    for path in files:
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            found = CLASS.match(line) or MEMBER.match(line)
            if found:
                lines_of[found[1]] += lines_of_block(lines[number:])
    return lines_of


def test_no_file_or_class_of_the_engine_is_too_long() -> None:
    lines_of_files = {path.name: len(path.read_text().splitlines()) for path in engine_files()}
    classes = lines_of_classes(engine_files())
    assert classes["Pipeline"] and classes["LayerRecord"], "classes are not found any more"
    too_long = {name for name, lines in lines_of_files.items() if lines > MOST_LINES["file"]}
    too_long |= {name for name, lines in classes.items() if lines > MOST_LINES["class"]}
    assert not too_long, {n: lines_of_files.get(n, classes[n]) for n in too_long}


# What the folders above the core may include of the project, and of foreign libraries.
FOLDERS_ABOVE = {
    "adaptors/torch": (
        r"^(lgreco|adaptors/torch)/",
        r"^(torch/csrc/distributed|ATen|c10)/|^((sys/)?(mman|stat|fcntl|unistd))\.h$",
    ),
    "adaptors/mpi": (r"^(lgreco|adaptors/mpi)/", r"^mpi\.h$"),
    "adaptors/cuda": (
        r"^(lgreco|adaptors/cuda|src/device)/|^src/kernels/lloyd_max_table\.h$",
        r"^cuda_runtime\.h$",
    ),
    "python/bindings": (r"^(lgreco|src|python/bindings|adaptors/torch)/", r"^(torch|pybind11)/"),
}


@pytest.mark.parametrize("folder", sorted(FOLDERS_ABOVE))
def test_folders_above_the_core_depend_only_downward(folder: str) -> None:
    own, foreign = FOLDERS_ABOVE[folder]
    files = [path for path in sources(folder) if not is_test(path)]
    assert files, f"{folder} has no sources"
    wrong = [
        f"{path.relative_to(ROOT)} includes {target}"
        for path in files
        for bracket, target in includes(path)
        if not re.search(own if bracket == '"' else rf"{own}|{foreign}|^[a-z_]+$", target)
    ]
    assert not wrong, "\n".join(wrong)


def test_adaptors_know_no_python() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} includes {target}"
        for path in sources("adaptors")
        for _, target in includes(path)
        if re.search(r"python|pybind", target, re.IGNORECASE)
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_bindings_of_torch_include_the_torch_adaptor() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in sources("python/bindings")
        for _, target in includes(path)
        if re.match(r"(adaptors|torch)/", target) and path.parent.name != "torch"
    ]
    assert not wrong, "\n".join(wrong)


# The Python package from bottom to top: a module imports only what stands before it. A folder is
# one module; modules of one folder may import each other.
PACKAGE = [
    "_core", "_torch", "errors", "arguments", "brief", "files", "counters", "methods", "codec",
    "cost_table", "plan", "planner", "shard_names", "policies", "known_models", "step_time",
    "run_log", "logging_to", "settings", "torch_internals", "savings", "nodes", "process_groups",
    "same_parameters", "compression", "distributed_state", "aggregator", "outer_step", "frontends",
    "accelerate", "lightning", "transformers", "report", "advise", "cli",
]  # fmt: skip
NEED_TORCH = {
    "_torch", "torch_internals", "nodes", "process_groups", "same_parameters", "compression",
    "distributed_state", "aggregator", "outer_step", "frontends", "accelerate", "lightning",
    "transformers",
}  # fmt: skip


def package_files() -> dict[Path, str]:
    """Files and their modules. The package's `__init__.py` and programs stand above all."""
    package = ROOT / "python/lgreco"
    return {
        path: path.relative_to(package).parts[0].removesuffix(".py")
        for path in sorted(package.rglob("*.py"))
        if path != package / "__init__.py" and path.name != "__main__.py"
    }


def imports(tree: ast.AST) -> Iterator[str]:
    """Names of modules, and of what is imported from them, as dotted paths."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_python_module_has_its_place() -> None:
    assert set(package_files().values()) | {"_core", "_torch"} == set(PACKAGE)


def test_python_modules_import_only_downward() -> None:
    wrong = []
    for path, module in package_files().items():
        for name in imports(ast.parse(path.read_text(encoding="utf-8"))):
            top, _, rest = name.partition(".")
            target = rest.split(".")[0]
            if top != "lgreco" or target == module:
                continue
            if target not in PACKAGE or PACKAGE.index(target) > PACKAGE.index(module):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_most_of_the_package_needs_no_torch() -> None:
    """Where torch is optional (`cli`, `advise`), it is imported where it is used."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, module in package_files().items()
        if module not in NEED_TORCH | {"advise", "cli"}
        for name in imports(ast.parse(path.read_text(encoding="utf-8")))
        if name.split(".")[0] == "torch" or name.removeprefix("lgreco.").split(".")[0] in NEED_TORCH
    ]
    assert not wrong, "\n".join(wrong)


# What Python code of each folder never imports: the package stands on its own, and `tools`, which
# starts ranks for everything else, stands below all of it.
NEVER_IMPORTED = {
    "python/lgreco": {"experiments", "benchmarks", "tools", "examples"},
    "tools": {"lgreco", "experiments", "benchmarks", "examples"},
    "experiments": {"benchmarks", "examples"},
    "examples": {"benchmarks", "tools"},
}


@pytest.mark.parametrize("folder", sorted(NEVER_IMPORTED))
def test_folders_of_python_import_only_downward(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files, f"{folder} has no Python"
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports(ast.parse(path.read_text(encoding="utf-8")))
        if name.split(".")[0] in NEVER_IMPORTED[folder]
    ]
    assert not wrong, "\n".join(wrong)


OUR_PRIVATE_NAMES = {
    "_core",
    "_torch",
    "_engine",
    "_layers",
    "_before_pass",
    "_exit",
}  # the last is Python's, in os


def test_private_names_of_torch_are_in_one_file() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} touches {node.attr}"
        for path, module in package_files().items()
        if module != "torch_internals"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and re.match(r"_[a-z]", node.attr)
        and node.attr not in OUR_PRIVATE_NAMES
        and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})
    ]
    assert not wrong, "\n".join(wrong)
