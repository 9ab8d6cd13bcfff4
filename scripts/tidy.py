"""clang-tidy over the sources of the core: those that it has not passed as they are now.

    scripts/tidy.py                    src/ and adaptors/mpi, without tests
    scripts/tidy.py --all              also tests, examples, the torch adaptor and the bindings
    scripts/tidy.py src/planner/dp.cc  only these

A file that passed is remembered, in build/tidy, under a hash of all that decides on the outcome:
its content and that of every header of ours that it includes, the compiler's command, the checks.
"""

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PASSED = ROOT / "build/tidy"
ROUTINE = ("src/", "adaptors/mpi/")  # PyTorch's headers cost the others half a minute a file
TESTS = ("_test.cc", "_benchmark.cc")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("files", nargs="*", help="relative to the repository")
    arguments.add_argument("--all", action="store_true", help="also tests, examples, torch")
    given = arguments.parse_args()
    databases = [ROOT / "build/mpi", ROOT / "build/python"]  # the first that has a file decides
    commands = {f: c for database in reversed(databases) for f, c in in_database(database).items()}
    wanted = given.files or [file for file in sorted(commands) if given.all or is_routine(file)]
    if unknown := [file for file in wanted if file not in commands]:
        print(f"[tidy] not compiled by the preset mpi or the package: {', '.join(unknown)}")
        return 1
    PASSED.mkdir(parents=True, exist_ok=True)
    failed = False
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for report in pool.map(lambda file: report_on(file, *commands[file]), wanted):
            print(report, end="", flush=True)
            failed = failed or report != ""
    return 1 if failed else 0


def is_routine(file: str) -> bool:
    return file.startswith(ROUTINE) and not file.endswith(TESTS)


def in_database(folder: Path) -> dict[str, tuple[Path, list[str]]]:
    """Of each file of ours, the folder and the compiler's command."""
    path = folder / "compile_commands.json"
    if not path.exists():
        return {}
    entries = json.loads(path.read_text())
    return {
        str(Path(entry["file"]).relative_to(ROOT)): (folder, shlex.split(entry["command"]))
        for entry in entries
        if Path(entry["file"]).is_relative_to(ROOT) and entry["file"].endswith(".cc")
    }


def report_on(file: str, folder: Path, command: list[str]) -> str:
    """What clang-tidy says; nothing when the file passes."""
    stamp = PASSED / hash_of(file, command)
    if stamp.exists():
        return ""
    tidy = subprocess.run(
        ["clang-tidy", "--quiet", "--warnings-as-errors=*", "-p", folder,
         "--extra-arg=-Wno-unknown-warning-option", ROOT / file],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    if tidy.returncode == 0:
        stamp.touch()
        return ""
    return tidy.stdout or tidy.stderr


def hash_of(file: str, command: list[str]) -> str:
    content = hashlib.sha256("\0".join(command).encode())
    for checks in (ROOT / ".clang-tidy", (ROOT / file).parent / ".clang-tidy"):
        content.update(checks.read_bytes() if checks.exists() else b"")
    for used in sorted(used_files(command)):
        content.update(used.encode() + (ROOT / used).read_bytes())
    return f"{file.replace('/', '_')}-{content.hexdigest()[:16]}"


def used_files(command: list[str]) -> set[str]:
    """Of ours, by the compiler: the file and what it includes."""
    output = command.index("-o")
    without_output = command[:output] + command[output + 2 :]
    rule = subprocess.run([*without_output, "-MM"], capture_output=True, text=True, check=True)
    paths = [Path(word) for word in rule.stdout.replace("\\\n", " ").split()[1:]]
    return {str(path.relative_to(ROOT)) for path in paths if path.is_relative_to(ROOT)}


if __name__ == "__main__":
    sys.exit(main())
