"""Reading files that claim to be data: regular files only, and no more than they may hold."""

from __future__ import annotations

import stat
from pathlib import Path


def read_regular_file(path: Path, most_bytes: int) -> bytes:
    """Raises ValueError when the file is missing, longer, or a pipe or device: these never end."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"[data] {path} is no regular file")
        if status.st_size > most_bytes:
            raise ValueError(
                f"[data] {path} has {status.st_size} bytes; at most {most_bytes} are expected"
            )
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"[data] cannot read {path}: {error}") from error
