"""Image data sets: the real file formats, read from local files only.

`load_images(folder)` reads CIFAR-10 or CIFAR-100 when a folder is given; otherwise Fashion-MNIST as
Debian's `dataset-fashion-mnist` installs it, and scikit-learn's bundled digits where that is
missing.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import subprocess
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from experiments.common.cifar import read_records, release_in
from lgreco.files import read_file

FASHION_PACKAGE = "dataset-fashion-mnist"
_IDX_UBYTE = 0x08
_MOST_PACKED_BYTES = 1 << 30
_MOST_VALUES = 1 << 32


@dataclass
class Images:
    """A data set in memory.

    Attributes:
        name: what it is and where it came from, for the screen.
        train_x, test_x: uint8, (count, channels, height, width).
        train_y, test_y: int64 class numbers.
        classes: how many there are.
    """

    name: str
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: int

    def normalised(self, x: Tensor) -> Tensor:
        """float32 with the training set's mean 0 and standard deviation 1 per channel."""
        sample = self.train_x[:10_000].float()
        mean = sample.mean(dim=(0, 2, 3), keepdim=True)
        deviation = sample.std(dim=(0, 2, 3), keepdim=True)
        return (x.float() - mean) / deviation


def shrunk(images: Images, factor: int) -> Images:
    """With 1 / `factor` of the height and width, by averaging; borders that do not fit are cut."""

    def shrink(x: Tensor) -> Tensor:
        return torch.cat([avg_pool2d(part.float(), factor) for part in x.split(1000)]).to(x.dtype)

    small = replace(images, train_x=shrink(images.train_x), test_x=shrink(images.test_x))
    height, width = small.train_x.shape[2:]
    return replace(small, name=f"{images.name} ({height} x {width} pixels)")


def load_images(folder: str | Path | None = None) -> Images:
    """See the module. Raises ValueError or StateError naming the file that is wrong or missing."""
    if folder is not None:
        return load_cifar(Path(folder))
    installed = _fashion_mnist_folder()
    if installed:
        return load_fashion_mnist(installed)
    digits = load_digits()
    return replace(digits, name=f"{digits.name} (Debian's {FASHION_PACKAGE} is not installed)")


def load_cifar(folder: Path) -> Images:
    """The binary version of CIFAR-10 or CIFAR-100, whichever is unpacked in `folder`."""
    release = release_in(folder)
    train_x, train_y = read_records([folder / name for name in release.train_files], release)
    test_x, test_y = read_records([folder / release.test_file], release)
    name = f"{release.name} ({folder})"
    return Images(name, train_x, train_y, test_x, test_y, classes=release.classes)


def load_fashion_mnist(folder: Path) -> Images:
    """Four `*-ubyte.gz` files in the IDX format of MNIST."""
    train_x = read_idx(folder / "train-images-idx3-ubyte.gz", dimensions=3)
    train_y = read_idx(folder / "train-labels-idx1-ubyte.gz", dimensions=1)
    test_x = read_idx(folder / "t10k-images-idx3-ubyte.gz", dimensions=3)
    test_y = read_idx(folder / "t10k-labels-idx1-ubyte.gz", dimensions=1)
    return Images(
        "Fashion-MNIST",
        train_x.unsqueeze(1),
        train_y.long(),
        test_x.unsqueeze(1),
        test_y.long(),
        classes=10,
    )


def load_digits() -> Images:
    """scikit-learn's 1,797 digits of 8 x 8, enlarged to 24 x 24; every fifth is for testing."""
    from sklearn.datasets import load_digits as bundled

    digits = bundled()
    pixels = torch.from_numpy(digits.images * (255 / 16)).to(torch.uint8)
    x = pixels.repeat_interleave(3, dim=1).repeat_interleave(3, dim=2).unsqueeze(1)
    y = torch.from_numpy(digits.target).long()
    test = torch.arange(len(y)) % 5 == 0
    return Images("scikit-learn digits", x[~test], y[~test], x[test], y[test], classes=10)


def read_idx(path: Path, dimensions: int) -> Tensor:
    """A gzipped IDX file of unsigned bytes. Raises ValueError when it is anything else; unpacks no
    more than its header says."""
    packed = io.BytesIO(read_file(path, _MOST_PACKED_BYTES))
    try:
        with gzip.GzipFile(fileobj=packed) as file:
            start = file.read(4)
            raw_shape = file.read(4 * dimensions)
            if start != bytes([0, 0, _IDX_UBYTE, dimensions]) or len(raw_shape) < 4 * dimensions:
                raise ValueError(
                    f"[images] {path} is no IDX file of {dimensions}-dimensional bytes"
                )
            shape = struct.unpack(f">{dimensions}I", raw_shape)
            count = math.prod(shape)
            values = b"" if count > _MOST_VALUES else file.read(count + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"[images] cannot read {path}: {error}") from error
    if len(values) != count:
        raise ValueError(f"[images] {path} does not hold the values that its header says: {shape}")
    return torch.frombuffer(bytearray(values), dtype=torch.uint8).reshape(shape)


def _fashion_mnist_folder() -> Path | None:
    try:
        listing = subprocess.run(
            ["dpkg", "-L", FASHION_PACKAGE], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    files = (Path(line) for line in listing.splitlines())
    return next((f.parent for f in files if f.name == "train-images-idx3-ubyte.gz"), None)
