"""What a run ran on: versions and hardware, without loading torch."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lgreco import _core


def versions() -> dict[str, str]:
    """Of lgreco, Python and, where it is installed, torch."""
    found = {"lgreco": _core.__version__, "python": platform.python_version()}
    with contextlib.suppress(PackageNotFoundError):
        found["torch"] = version("torch")
    return found


def hardware() -> dict[str, object]:
    """Of this process: `cpu`, `cores` that it may use, `memory_gb`, `system`, and the
    `accelerators` that torch sees, when it is loaded."""
    found: dict[str, object] = {"cpu": _cpu(), "cores": _cores(), "system": platform.system()}
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not on this system
        found["memory_gb"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        found["accelerators"] = ", ".join(names)
    return found


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
