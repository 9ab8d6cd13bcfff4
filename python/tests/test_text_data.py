"""The text loader on small files of the real format."""

import sysconfig
from pathlib import Path

import pytest
import torch

from experiments.common.text import load_standard_library, load_text

TRAIN = " \n = Valkyria Chronicles = \n \n Senjō no <unk> 3 is a game . \n"
VALID = " \n = Homarus gammarus = \n \n A lobster . \n"


@pytest.fixture
def wikitext(tmp_path):
    (tmp_path / "wiki.train.tokens").write_text(TRAIN, encoding="utf-8")
    (tmp_path / "wiki.valid.tokens").write_text(VALID, encoding="utf-8")
    return tmp_path


def test_wikitext_is_read_byte_for_byte(wikitext):
    text = load_text(wikitext)
    assert bytes(text.train.tolist()) == TRAIN.encode()
    assert bytes(text.valid.tolist()) == VALID.encode()
    assert text.train.dtype == torch.uint8


@pytest.mark.parametrize(
    ("content", "complaint"), [(None, "cannot read"), (b"", "is empty"), (b"\xff\xfe", "not UTF-8")]
)
def test_damaged_wikitext_is_refused(wikitext, content, complaint):
    path = wikitext / "wiki.valid.tokens"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path}.*{complaint}|{complaint} {path}"):
        load_text(wikitext)


def test_standard_library_has_fixed_and_disjoint_parts():
    text = load_text()
    folder = Path(sysconfig.get_path("stdlib"))
    source = (folder / "argparse.py").read_bytes()
    assert source in bytes(text.train.tolist()) and source not in bytes(text.valid.tolist())
    assert len(text.train) > 1_000_000 and len(text.valid) > 100_000


def test_a_folder_without_the_modules_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path} has none of the modules"):
        load_standard_library(tmp_path)
