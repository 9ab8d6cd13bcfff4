"""Programs that take too long end, with their ranks and with what they printed."""

import os
import subprocess
import sys
import time

import pytest

from tools.ranks import end_session, run, torchrun

SLEEPER = """
import os, sys, time, pathlib
pathlib.Path(sys.argv[1], str(os.getpid())).touch()
time.sleep(600)
"""


def is_alive(process_id):
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_no_rank_is_left_behind(tmp_path):
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    ranks = tmp_path / "ranks"
    ranks.mkdir()
    launcher = subprocess.Popen(
        torchrun(2, tmp_path / "sleeper.py", ranks), stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while len(list(ranks.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    started = [int(path.name) for path in ranks.iterdir()]
    end_session(launcher)
    launcher.stderr.close()
    assert len(started) == 2
    assert not any(map(is_alive, started))


def test_what_takes_too_long_is_ended_with_what_it_printed():
    program = "import time; print('asleep', flush=True); time.sleep(600)"
    with pytest.raises(subprocess.TimeoutExpired) as late:
        run([sys.executable, "-c", program], timeout=5)
    assert "asleep" in late.value.output


def test_what_does_not_want_to_end_is_killed():
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(); "
    process = subprocess.Popen(
        [sys.executable, "-c", stubborn + "time.sleep(600)"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    process.stdout.readline()
    end_session(process, grace=0.5)
    process.stdout.close()
    assert process.returncode == -9


def test_output_and_status_are_kept():
    program = "import sys; print(1); print(2, file=sys.stderr); sys.exit(3)"
    result = run([sys.executable, "-c", program])
    assert (result.returncode, result.stdout, result.stderr) == (3, "1\n", "2\n")
