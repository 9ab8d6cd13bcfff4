"""The C++ side of benchmarks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.report import ROOT

BUILD = ROOT / "build/benchmark"


def built(binary: str, *settings: str) -> Path:
    """A program of the benchmark build, by its path in there. `settings`: CMake's, as `NAME=ON`."""
    tools = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    configure = ["cmake", "--preset", "benchmark", *(f"-D{setting}" for setting in settings)]
    build = ["cmake", "--build", "--preset", "benchmark", "--target", Path(binary).name]
    for command in (configure, build):
        subprocess.run(command, check=True, cwd=ROOT, env=tools, stdout=subprocess.DEVNULL)
    return BUILD / binary
