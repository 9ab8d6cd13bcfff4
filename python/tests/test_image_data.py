"""The loaders on small files of the real formats."""

import gzip
import os
import struct
import tracemalloc

import numpy as np
import pytest
import torch

import lgreco
from experiments.common.images import load_cifar, load_digits, load_fashion_mnist, read_idx
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


def records(labels, pixels):
    return b"".join(bytes(row) + x.tobytes() for row, x in zip(labels, pixels, strict=True))


PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)


def test_cifar100(tmp_path):
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(records([(9, 1), (0, 99), (7, 3), (1, 0)], PIXELS))
    images = load_cifar(tmp_path)
    assert images.classes == 100 and np.array_equal(images.train_x.numpy(), PIXELS)
    assert images.test_y.tolist() == [1, 99, 3, 0]


def test_cifar10(tmp_path):
    for number in range(1, 6):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(records([(number,)], PIXELS[:1]))
    (tmp_path / "test_batch.bin").write_bytes(records([(0,), (9,)], PIXELS[:2]))
    images = load_cifar(tmp_path)
    assert images.classes == 10 and images.train_y.tolist() == [1, 2, 3, 4, 5]
    assert np.array_equal(images.test_x.numpy(), PIXELS[:2])


@pytest.mark.parametrize(
    ("damaged", "complaint"),
    [
        (b"", "0 bytes"),
        (records([(0, 1)], PIXELS[:1])[:-1], "3073 bytes, which are no records"),
        (records([(0, 100)], PIXELS[:1]), "a label 100"),
        (b"\x80\x02}q\x00.", "no records"),  # the pickled release
    ],
)
def test_damaged_cifar_files_are_refused(tmp_path, damaged, complaint):
    (tmp_path / "train.bin").write_bytes(records([(0, 1)], PIXELS[:1]))
    (tmp_path / "test.bin").write_bytes(damaged)
    with pytest.raises(ValueError, match=complaint) as refusal:
        load_cifar(tmp_path)
    assert str(tmp_path / "test.bin") in str(refusal.value)


def test_no_cifar_and_no_regular_file(tmp_path):
    with pytest.raises(ValueError, match=r"neither test_batch.bin nor test.bin"):
        load_cifar(tmp_path)
    os.mkfifo(tmp_path / "test.bin")
    os.mkfifo(tmp_path / "train.bin")
    with pytest.raises(lgreco.StateError, match=r"train.bin.*no regular file"):
        load_cifar(tmp_path)


def test_no_more_is_unpacked_than_the_header_says(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(struct.pack(">4BII", 0, 0, 8, 2, 1, 1) + bytes(100_000_000)))
    tracemalloc.start()
    with pytest.raises(ValueError, match="does not hold the values"):
        read_idx(path, dimensions=2)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_digits_need_no_files():
    images = load_digits()
    assert "digits" in images.name and images.train_x.shape[1:] == (1, 24, 24)


def test_model_sizes():
    assert sum(p.numel() for p in cifar100().parameters()) == 11_220_132
    assert ResNet18(10, 1, 16)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
