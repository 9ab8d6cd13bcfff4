"""Real processes, real Gloo. The scripts in ranks/ hold the assertions."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.ranks import on_loopback

RANKS = Path(__file__).parent / "ranks"


def one_sided_cases() -> list[str]:
    """Keys of CASES in ranks/one_sided.py, which only ranks can import."""
    text = (RANKS / "one_sided.py").read_text(encoding="utf-8")
    return re.findall(r'^    "([^"]+)": ', text, re.MULTILINE)


@pytest.mark.parametrize("ranks", [2, 3])
def test_error_feedback_telescopes_and_ranks_agree(run_ranks, ranks):
    assert "telescopes" in run_ranks(ranks, "error_feedback.py", timeout=240)


@pytest.mark.parametrize("ranks", [2, 4])
def test_every_way_of_using_ddp(run_ranks, ranks):
    assert "modes agree" in run_ranks(ranks, "ddp_modes.py", timeout=240)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_powersgd_is_the_published_algorithm(run_ranks, ranks):
    assert "agrees with NumPy" in run_ranks(ranks, "powersgd_numpy.py")


@pytest.mark.parametrize("ranks", [2, 3])
def test_non_finite_gradients(run_ranks, ranks):
    assert "seen by all" in run_ranks(ranks, "non_finite.py")


@pytest.mark.parametrize("ranks", [2, 3])
def test_what_has_no_gradient_stands_still(run_ranks, ranks):
    assert "stands still" in run_ranks(ranks, "zeros.py")


def test_resume_at_every_step(run_ranks, tmp_path):
    assert "same runs" in run_ranks(2, "resume.py", str(tmp_path), timeout=400)


def test_resume_on_another_number_of_ranks(run_ranks, tmp_path):
    run_ranks(2, "resize.py", "save", str(tmp_path))
    assert "load on 3 ranks" in run_ranks(3, "resize.py", "load", str(tmp_path))
    assert "load on 1 ranks" in run_ranks(1, "resize.py", "load", str(tmp_path))


@pytest.mark.parametrize(
    ("saved", "loaded"),  # ranks, and how many of them are a node; 0: flat
    [
        ((2, 0), [(2, 0), (3, 0), (1, 0)]),
        ((3, 0), [(2, 0)]),
        ((4, 2), [(4, 2), (2, 0), (3, 0)]),
        ((2, 0), [(4, 2)]),
    ],
)
def test_a_portable_state(run_ranks, tmp_path, saved, loaded):
    def run(action, ranks, ranks_a_node):
        arguments = action, str(ranks_a_node), str(tmp_path)
        assert "done" in run_ranks(ranks, "portable.py", *arguments, timeout=400)

    run("save", *saved)
    for place in loaded:
        run("load", *place)


@pytest.mark.parametrize(
    ("saved", "exact", "others"),
    [
        ((2, 0), (2, 0), [(3, 0), (1, 0)]),
        ((3, 0), (3, 0), [(2, 0)]),
        ((4, 2), (4, 2), [(2, 0)]),
    ],
)
def test_distributed_checkpoints(run_ranks, tmp_path, saved, exact, others):
    def run(action, ranks, ranks_a_node):
        arguments = action, str(ranks_a_node), str(tmp_path)
        assert "done" in run_ranks(ranks, "distributed_checkpoint.py", *arguments, timeout=400)

    run("save", *saved)
    run("load_exact", *exact)
    for place in others:
        run("load", *place)


def test_the_examples_of_the_page_on_checkpoints(run_ranks, tmp_path):
    assert "examples work" in run_ranks(2, "checkpoints_page.py", str(tmp_path))


def test_a_checkpoint_of_rank_0_alone(run_ranks, tmp_path):
    assert "all states" in run_ranks(2, "gathered.py", str(tmp_path))


def test_what_ddp_synchronises_is_compressed(run_ranks):
    assert "as DDP does" in run_ranks(2, "module_zoo.py", timeout=300)


def test_what_wraps_a_ddp_model_is_served(run_ranks):
    assert "wrappers agree" in run_ranks(2, "wrappers.py", timeout=240)


def test_a_process_that_trains_alone():
    """Without any launcher, in a group of one, and in one of several that has not begun."""
    program = Path(__file__).parent / "alone.py"
    for case, ranks in (("nothing", "1"), ("group", "1"), ("forgotten", "2")):
        environment = os.environ | {"WORLD_SIZE": ranks}
        command = [sys.executable, str(program), case]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
        assert done.returncode == 0 and f"{case}: as it should be" in done.stdout, done.stderr


def test_ambient_settings_reach_nothing(run_ranks):
    assert "reach nothing" in run_ranks(2, "ambient.py", timeout=300)


def test_policies(run_ranks):
    assert "decide alike" in run_ranks(2, "policies.py", timeout=240)


def test_uneven_inputs(run_ranks):
    assert "joined" in run_ranks(3, "join.py")


def test_settings_that_differ_are_named_on_every_rank(run_ranks):
    assert "differ" in run_ranks(3, "mismatch.py")


def test_loss_scaling(run_ranks):
    assert "scaled" in run_ranks(2, "loss_scale.py")


@pytest.mark.parametrize(
    "story",
    ["skipped_spike", "rolled_back", "generator_pass", "sharpness_aware", "other_weights"],
)
def test_averages_that_are_not_applied(run_ranks, story):
    assert "end well" in run_ranks(2, "stories.py", story, timeout=240)


def test_grad_scaler(run_ranks):
    assert "scaled alike" in run_ranks(2, "grad_scaler.py", timeout=240)


@pytest.mark.parametrize("case", one_sided_cases())
def test_what_one_rank_alone_says(run_ranks, case):
    assert "same error everywhere" in run_ranks(2, "one_sided.py", case)


def test_trace_shows_overlap(run_ranks, tmp_path):
    assert "overlap" in run_ranks(2, "trace.py", str(tmp_path))


def test_wrong_use(run_ranks):
    assert "refused" in run_ranks(2, "wrong_use.py")


def test_what_is_no_longer_used_leaves_nothing_behind(run_ranks):
    assert "nothing left" in run_ranks(2, "lifetime.py")


@pytest.mark.parametrize("ranks", [1, 2])
def test_forked_children_leave_it_to_their_parent(run_ranks, ranks):
    assert "leave it alone" in run_ranks(ranks, "forked_child.py")


def may_set_policies() -> bool:
    try:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    except (AttributeError, OSError):
        return False
    return True


@pytest.mark.skipif(not may_set_policies(), reason="scheduling policies cannot be set here")
def test_gloo_threads_do_not_preempt(run_ranks):
    assert "wait for their turn" in run_ranks(2, "gloo_threads.py")


@pytest.mark.parametrize("method", ["quantize:4", "low_rank:2:min_ratio=1"])
def test_killed_peer_is_a_typed_error(tmp_path, method):
    ranks = 3
    processes = [
        subprocess.Popen(
            [sys.executable, RANKS / "peer_killed.py", str(r), str(ranks), tmp_path / "f", method],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=on_loopback(),
        )
        for r in range(ranks)
    ]
    try:
        outputs = [process.communicate(timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes[:-1], outputs[:-1], strict=True):
        assert process.returncode == 0 and "survived" in output, output


@pytest.mark.parametrize("method", ["quantize:4", "low_rank:2:min_ratio=1"])
def test_a_rank_that_gives_up_fails_its_peers_at_once(run_ranks, method):
    output = run_ranks(2, "given_up.py", method)
    assert "gave up" in output and "survived" in output
