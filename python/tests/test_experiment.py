"""A run of the ResNet-18 experiment, in small: trains, plans, counts bytes, can be reported."""

from pathlib import Path

import pytest

from experiments.common.runs import Run, RunFailed, is_finished, train
from lgreco.report import summaries, write_report
from lgreco.report.page import SECTIONS
from lgreco.run_log import plans_in_effect, read_run_log
from tools.loopback import loopback_bytes
from tools.namespaces import has_private_loopback, on_private_loopback
from tools.ranks import on_loopback, run, torchrun

ROOT = Path(__file__).parents[2]
IS_PRIVATE = has_private_loopback()


@pytest.fixture(scope="module", params=["low_rank:4", "quantize:4"])
def finished(request, tmp_path_factory):
    log = tmp_path_factory.mktemp("run") / "run.jsonl"
    command = torchrun(
        2, "-m", "experiments.run", "resnet18", f"--output={log}", f"--method={request.param}",
        "--policy=lgreco", "--steps=36", "--batch=2", "--test-samples=100",
        "--plan-start=12", "--plan-every=10",
    )  # fmt: skip
    if IS_PRIVATE:
        command = on_private_loopback(command)
    result = run(command, timeout=240, env=on_loopback(), cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    return read_run_log(log)


@pytest.mark.skipif(not IS_PRIVATE, reason="others use the loopback interface that is counted")
def test_counted_bytes_are_the_network_counters(finished):
    summary = summaries([finished])[0]
    assert summary.counted == pytest.approx(summary.loopback, rel=0.03)


def test_plans_are_in_use_and_better_than_uniform(finished):
    plans = plans_in_effect(finished)
    assert [plan["step"] for plan in plans] == [0, 12, 22, 32]
    for plan in plans[1:]:
        assert plan["error"] <= plan["budget"]
        assert plan["bytes"] <= plans[0]["bytes"]
        assert plan["bytes"] == sum(plan["layer_bytes"].values())
    assert summaries([finished])[0].plan_gain > 1


def test_report_of_a_real_run(finished, tmp_path):
    drawn = {section.heading for section in SECTIONS if section.draw([finished])}
    assert drawn == {section.heading for section in SECTIONS}
    page = write_report([finished], tmp_path / "report.html").read_text()
    assert "Computed step over bandwidth" in page and "Encoding over steps" in page


@pytest.mark.parametrize(
    ("run", "complaint"),
    [
        (Run("no such level", "low_rank:none"), "low_rank:none"),
        (
            Run("nothing to plan from", "none", "lgreco"),
            r"\[run\] the policy 'lgreco' needs a method",
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_run_that_fails_says_why_and_is_not_finished(run, complaint, tmp_path):
    log = run.log(tmp_path)
    with pytest.raises(RunFailed, match=complaint):
        train("digits", run, log, {"steps": 2})
    assert not is_finished(log)


def test_loopback_counter_sees_what_is_sent():
    import socket

    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    before = loopback_bytes()
    receiver.sendto(bytes(10_000), receiver.getsockname())
    assert loopback_bytes() - before >= 10_000
