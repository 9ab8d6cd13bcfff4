"""Builds the fake device, in the folder of the package's own build, whose objects it shares."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/python"


def build(*targets: str) -> None:
    """`_fake_device`, `planted_torch`. Some minutes the first time, seconds when nothing is new.

    Raises RuntimeError with the end of the output when it fails.
    """
    new = [] if (BUILD / "CMakeCache.txt").exists() else ["-G", "Ninja", "-DLGRECO_TESTS=OFF"]
    settings = [f"-D{name}=ON" for name in ("LGRECO_PYTHON", "LGRECO_TORCH", "LGRECO_FAKE_DEVICE")]
    python = f"-DPython_EXECUTABLE={sys.executable}"
    configure = ["cmake", "-S", ROOT, "-B", BUILD, *new, *settings, python]
    for command in (configure, ["cmake", "--build", BUILD, "--target", *targets]):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{command} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")


if __name__ == "__main__":
    build(*sys.argv[1:])
