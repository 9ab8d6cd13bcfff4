"""CIFAR-10 and CIFAR-100 from their binary releases (https://www.cs.toronto.edu/~kriz/cifar.html).

A file is a row of records: one byte (CIFAR-10) or two (CIFAR-100: coarse, then fine) of labels,
then 3 x 32 x 32 bytes of pixels. Nothing in it is more than a number, unlike the pickled release.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lgreco.files import read_file

PIXELS = 3 * 32 * 32
_MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Release:
    """One of the two, as unpacked from its archive."""

    name: str
    train_files: tuple[str, ...]
    test_file: str
    label_bytes: int  # the last one counts
    classes: int


RELEASES = (
    Release(
        "CIFAR-10",
        tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        "test_batch.bin",
        label_bytes=1,
        classes=10,
    ),
    Release("CIFAR-100", ("train.bin",), "test.bin", label_bytes=2, classes=100),
)


def release_in(folder: Path) -> Release:
    """Raises ValueError when the folder holds neither."""
    for release in RELEASES:
        if (folder / release.test_file).exists():
            return release
    raise ValueError(
        f"[images] {folder} holds neither {' nor '.join(r.test_file for r in RELEASES)}: unpack "
        "the binary version of CIFAR-10 or of CIFAR-100 there"
    )


def read_records(paths: list[Path], release: Release) -> tuple[Tensor, Tensor]:
    """Pixels, uint8 of (count, 3, 32, 32), and labels, int64. Raises ValueError, or
    StateError when a file cannot be read, naming the file."""
    parts = [_records(path, release) for path in paths]
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def _records(path: Path, release: Release) -> tuple[Tensor, Tensor]:
    raw = read_file(path, _MOST_BYTES)
    length = release.label_bytes + PIXELS
    if not raw or len(raw) % length:
        raise ValueError(
            f"[images] {path} has {len(raw)} bytes, which are no records of {release.name} of "
            f"{length} bytes each"
        )
    records = torch.frombuffer(bytearray(raw), dtype=torch.uint8).reshape(-1, length)
    labels = records[:, release.label_bytes - 1].long()
    if int(labels.max()) >= release.classes:
        raise ValueError(
            f"[images] {path} has a label {int(labels.max())}; {release.name} has "
            f"{release.classes} classes"
        )
    return records[:, release.label_bytes :].reshape(-1, 3, 32, 32), labels
