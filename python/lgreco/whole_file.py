"""Files that appear whole or not at all: plans, reports, traces."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from lgreco.errors import StateError


def write_whole_file(path: str | Path, text: str) -> None:
    """Write `text`, in UTF-8, to `path`; whatever happens, `path` then holds what it held before or
    all of `text`, on the disk.

    A file keeps the mode of the one that it replaces. Only regular files are replaced, and no link
    is followed. Several processes may write to `path` at once: one of them wins.

    Raises StateError naming the file that cannot be written, or is no regular file.
    """
    path = Path(path)
    try:
        _replace(path, text.encode("utf-8", errors="surrogateescape"))
    except OSError as error:
        raise StateError(f"[file] cannot write {str(path)!r}: {error.strerror or error}") from error


def _replace(path: Path, content: bytes) -> None:
    mode = _mode_of(path)
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666 if mode is None else 0o600)
    try:
        with open(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _mode_of(path: Path) -> int | None:
    """Of the regular file that is there; None when nothing is."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise StateError(f"[file] cannot write {str(path)!r}: it is there, and is no regular file")
    return stat.S_IMODE(found.st_mode)
