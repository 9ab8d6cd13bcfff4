"""What every file that lgreco writes has in common."""

import os
import stat

import pytest

import lgreco
from lgreco.files import write_whole_file

PLAN = lgreco.Plan({"a": lgreco.Quantize(4)})

WRITERS = {"text": lambda path: write_whole_file(path, "new"), "plan": PLAN.save}


@pytest.fixture(params=WRITERS.values(), ids=WRITERS.keys())
def write(request):
    return request.param


def test_a_file_is_replaced_and_keeps_its_mode(tmp_path, write):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o600)
    write(path)
    assert path.read_text() != "old"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["file"]


def test_a_new_file_has_the_mode_of_new_files(tmp_path, write):
    (tmp_path / "other").touch()
    write(tmp_path / "file")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_links_and_what_is_no_file_stay(tmp_path, write):
    (tmp_path / "behind").write_text("old")
    (tmp_path / "link").symlink_to("behind")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder"):
        with pytest.raises(lgreco.StateError, match=rf"{name}.*no regular file"):
            write(tmp_path / name)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "behind").read_text() == "old"
    assert (tmp_path / "pipe").is_fifo()
    assert len(os.listdir(tmp_path)) == 4


def test_a_file_that_cannot_be_written_is_named(tmp_path, write):
    for path in (tmp_path / "missing" / "file", tmp_path / ("x" * 300), "/proc/file"):
        with pytest.raises(lgreco.StateError, match=r"cannot write .*(file|xxx)"):
            write(path)


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, write, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(lgreco.StateError, match="No space left"):
        write(path)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]
