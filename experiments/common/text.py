"""Text as bytes: the real file formats, read from local files only.

`load_text(folder)` reads files named as those of WikiText-103 when a folder is given; otherwise the
sources of Python's standard library, which are wherever Python is.
"""

from __future__ import annotations

import platform
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

VOCABULARY = 256
TRAIN_MODULES = (
    "_pydatetime", "_pydecimal", "argparse", "ast", "bdb", "calendar", "codecs", "configparser",
    "contextlib", "dataclasses", "datetime", "decimal", "difflib", "dis", "doctest", "enum",
    "fractions", "ftplib", "functools", "gettext", "heapq", "imaplib", "inspect", "ipaddress",
    "locale", "mailbox", "optparse", "pathlib", "pdb", "pickle", "pickletools", "platform",
    "plistlib", "pydoc", "random", "shutil", "smtplib", "socket", "ssl", "statistics",
    "subprocess", "tarfile", "threading", "tokenize", "turtle", "typing", "uuid",
)  # fmt: skip
VALID_MODULES = ("_pyio", "cmd", "copy", "csv", "string", "tempfile", "textwrap", "zipfile")


@dataclass
class Text:
    """A text in memory.

    Attributes:
        name: what it is and where it came from, for the screen.
        train, valid: uint8, one value per byte.
    """

    name: str
    train: Tensor
    valid: Tensor


def load_text(folder: str | Path | None = None) -> Text:
    """See the module. Raises ValueError naming the file that is missing or empty."""
    return load_standard_library() if folder is None else load_wikitext(Path(folder))


def load_wikitext(folder: Path) -> Text:
    """Files `wiki.train.tokens` and `wiki.valid.tokens`: UTF-8, words separated by spaces."""
    parts = [_read(folder / f"wiki.{part}.tokens") for part in ("train", "valid")]
    return Text(f"WikiText ({folder})", *parts)


def load_standard_library(folder: Path | None = None) -> Text:
    """Fixed modules of this Python's standard library; modules that it lacks are left out."""
    folder = Path(sysconfig.get_path("stdlib")) if folder is None else folder
    parts = []
    for modules in (TRAIN_MODULES, VALID_MODULES):
        files = [folder / f"{module}.py" for module in modules]
        present = [_read(file) for file in files if file.exists()]
        if not present:
            raise ValueError(f"[text] {folder} has none of the modules {', '.join(modules[:3])}...")
        parts.append(torch.cat(present))
    return Text(f"sources of Python {platform.python_version()}'s standard library", *parts)


def _read(path: Path) -> Tensor:
    try:
        raw = path.read_bytes()
        raw.decode("utf-8")
    except OSError as error:
        raise ValueError(f"[text] cannot read {path}: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"[text] {path} is not UTF-8: {error}") from error
    if not raw:
        raise ValueError(f"[text] {path} is empty")
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8)
