"""Files: what is read is regular and of bounded size, what is written appears whole."""

from __future__ import annotations

import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from lgreco.arguments import shown
from lgreco.errors import ConfigError, StateError

_MOST_JSON_BYTES = 1 << 30


def read_file(path: str | Path, most_bytes: int) -> bytes:
    """All of a regular file. Raises StateError when it is missing, has more than `most_bytes`, or
    is a pipe or a device, which may never end."""
    path = as_path(path)
    name = shown(str(path))
    try:
        # Without O_NONBLOCK to open a pipe is to wait for who writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise StateError(f"[file] {name} is no regular file")
            if found.st_size > most_bytes:
                raise StateError(
                    f"[file] {name} has {found.st_size} bytes; at most {most_bytes} are expected"
                )
            return file.read(found.st_size)
    except (OSError, ValueError) as error:  # ValueError: a name with NUL
        raise StateError(f"[file] cannot read {name}: {_reason(error)}") from error


def require_regular_file(path: str | Path) -> Path:
    """For readers of other libraries. Raises StateError on what is missing, a pipe or a device."""
    path = as_path(path)
    try:
        is_regular = stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError) as error:
        raise StateError(f"[file] cannot read {shown(str(path))}: {_reason(error)}") from error
    if not is_regular:
        raise StateError(f"[file] {shown(str(path))} is no regular file")
    return path


def read_json(path: str | Path) -> Any:
    """Raises StateError when the file cannot be read or is no JSON."""
    content = read_file(path, _MOST_JSON_BYTES)
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise StateError(f"[file] {shown(str(path))} is no JSON: {error}") from error


def write_whole_file(path: str | Path, text: str) -> None:
    """Write `text`, in UTF-8, to `path`; whatever happens, `path` then holds what it held before or
    all of `text`, on the disk.

    A file keeps the mode of the one that it replaces. Only regular files are replaced, and no link
    is followed. Several processes may write to `path` at once: one of them wins.

    Raises StateError naming the file that cannot be written, or is no regular file.
    """
    path = as_path(path)
    try:
        _replace(path, text.encode("utf-8", errors="surrogateescape"))
    except (OSError, ValueError) as error:  # ValueError: a name with NUL
        raise StateError(f"[file] cannot write {shown(str(path))}: {_reason(error)}") from error


def _reason(error: OSError | ValueError) -> object:
    return getattr(error, "strerror", None) or error


def as_path(path: object) -> Path:
    """Raises ConfigError on what is no text and no Path."""
    if isinstance(path, str | os.PathLike) and isinstance(os.fspath(path), str):
        return Path(path)
    raise ConfigError(f"[file] a path must be text or a Path, not {shown(path)}")


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
        raise StateError(
            f"[file] cannot write {shown(str(path))}: what is there is no regular file"
        )
    return stat.S_IMODE(found.st_mode)
