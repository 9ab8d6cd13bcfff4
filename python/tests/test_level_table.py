"""What cannot be read as recorded gradients is a ConfigError that says so."""

import contextlib
import io
import random

import numpy as np
import pytest

import lgreco
from lgreco.cli.level_table import load_level_table

REFERENCE = lgreco.PowerSGD(1)


def saved(save, *arrays, **named):
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


LAYER = np.random.default_rng(0).standard_normal((6, 40)).astype(np.float32)
STORED = saved(np.savez, w=LAYER)
DEFLATED = saved(np.savez_compressed, w=LAYER)


def damaged(whole, place):
    """With one byte changed."""
    return whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "No data left"),
        (STORED[:-30], "not a zip file"),
        (damaged(STORED, 200), "CRC-32"),
        (damaged(DEFLATED, 100), "invalid"),
        (saved(np.save, LAYER), "one array without a name"),
        (saved(np.savez, w=np.array([{}])), "allow_pickle"),
        (b"something else", "pickled"),
    ],
)
def test_damaged_gradients_are_refused(tmp_path, content, message):
    file = tmp_path / "gradients.npz"
    file.write_bytes(content)
    with pytest.raises(lgreco.ConfigError, match=f"cannot read .*{message}"):
        load_level_table(file, REFERENCE, [REFERENCE], ranks=2)


@pytest.mark.parametrize("whole", [STORED, DEFLATED], ids=["stored", "deflated"])
def test_a_changed_byte_is_found_or_harmless(tmp_path, whole):
    chance = random.Random(0)
    file = tmp_path / "gradients.npz"
    for _ in range(500):
        file.write_bytes(damaged(whole, chance.randrange(len(whole))))
        with contextlib.suppress(lgreco.ConfigError):
            load_level_table(file, REFERENCE, [REFERENCE], ranks=2)
