"""Programs that take too long end, with their ranks and with what they printed."""

import os
import subprocess
import sys

import pytest

from experiments.common.ranks import end_session, run, torchrun

SLEEPER = """
import os, sys, time, pathlib
pathlib.Path(sys.argv[1], str(os.getpid())).touch()
print("asleep", flush=True)
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
    with pytest.raises(subprocess.TimeoutExpired) as late:
        run(torchrun(2, tmp_path / "sleeper.py", ranks), timeout=10)
    started = [int(path.name) for path in ranks.iterdir()]
    assert len(started) == 2 and "asleep" in late.value.output
    assert not any(map(is_alive, started))


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
