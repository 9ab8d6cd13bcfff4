"""The loaders on small files of the real formats."""

import gzip
import pickle
import struct

import numpy as np
import pytest
import torch

from experiments.common.images import load_cifar100, load_digits, load_fashion_mnist, read_idx
from experiments.models.resnet import ResNet18, cifar100


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def fashion(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (("train", 20), ("t10k", 5)):
        write_idx(
            tmp_path / f"{name}-images-idx3-ubyte.gz",
            rng.integers(0, 256, (count, 28, 28), dtype=np.uint8),
        )
        write_idx(
            tmp_path / f"{name}-labels-idx1-ubyte.gz", rng.integers(0, 10, count, dtype=np.uint8)
        )
    return tmp_path


def test_fashion_mnist(fashion):
    images = load_fashion_mnist(fashion)
    assert images.train_x.shape == (20, 1, 28, 28) and images.test_y.shape == (5,)
    normalised = images.normalised(images.train_x)
    assert abs(normalised.mean()) < 1e-4 and abs(normalised.std() - 1) < 1e-3


def test_damaged_idx_files_are_refused(fashion):
    path = fashion / "train-images-idx3-ubyte.gz"
    raw = gzip.decompress(path.read_bytes())
    for damaged in (raw[:3], raw[:100], raw + b"x", b"\0\0\x0d\x03" + raw[4:]):
        path.write_bytes(gzip.compress(damaged))
        with pytest.raises(ValueError, match=str(path)):
            read_idx(path, dimensions=3)
    path.write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="cannot read"):
        read_idx(path, dimensions=3)


def write_cifar(folder, content):
    for name in ("train", "test"):
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))


def test_cifar100(tmp_path):
    pixels = np.arange(4 * 3072, dtype=np.uint32).astype(np.uint8).reshape(4, 3072)
    write_cifar(tmp_path, {b"data": pixels, b"fine_labels": [1, 99, 3, 0]})
    images = load_cifar100(tmp_path)
    assert images.train_x.shape == (4, 3, 32, 32) and images.classes == 100
    assert images.train_x[0, 1, 0, 0] == pixels[0, 1024]
    assert images.train_y.tolist() == [1, 99, 3, 0]


def test_cifar_files_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    write_cifar(tmp_path, {b"data": Evil(), b"fine_labels": []})
    with pytest.raises(ValueError, match="which no data set needs"):
        load_cifar100(tmp_path)


def test_missing_and_wrong_cifar_files(tmp_path):
    with pytest.raises(ValueError, match="no part of CIFAR-100"):
        load_cifar100(tmp_path)
    write_cifar(tmp_path, {b"data": np.zeros((2, 5), np.uint8), b"fine_labels": [1, 2]})
    with pytest.raises(ValueError):
        load_cifar100(tmp_path)


def test_digits_need_no_files():
    images = load_digits()
    assert "digits" in images.name and images.train_x.shape[1:] == (1, 24, 24)


def test_model_sizes():
    assert sum(p.numel() for p in cifar100().parameters()) == 11_220_132
    assert ResNet18(10, 1, 16)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
