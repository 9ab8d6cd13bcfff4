"""The ResNet-18 experiment, in small: trains, plans, counts bytes, and can be reported."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.common.loopback import loopback_bytes
from lgreco.report import summaries, write_report
from lgreco.run_log import plans_in_effect, read_run_log

ROOT = Path(__file__).parents[2]

# A network namespace of its own, where the system allows one: nobody else's bytes on loopback.
ISOLATED = [
    "unshare",
    "--map-root-user",
    "--net",
    "sh",
    "-c",
    'ip link set lo up && exec "$@"',
    "-",
]


def isolation():
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return []
    probe = subprocess.run([*ISOLATED, "true"], capture_output=True, check=False)
    return ISOLATED if probe.returncode == 0 else []


@pytest.fixture(scope="module", params=["low_rank:4", "quantize:4"])
def run(request, tmp_path_factory):
    log = tmp_path_factory.mktemp("run") / "run.jsonl"
    result = subprocess.run(
        [
            *isolation(), "env", "OMP_NUM_THREADS=1", "GLOO_SOCKET_IFNAME=lo",
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
            "-m", "experiments.resnet18.train", f"--output={log}", f"--method={request.param}",
            "--policy=lgreco", "--steps=36", "--batch=2", "--test-images=100",
            "--plan-start=12", "--plan-every=10",
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return read_run_log(log)


def test_counted_bytes_are_the_network_counters(run):
    summary = summaries([run])[0]
    assert summary.counted == pytest.approx(summary.loopback, rel=0.03)


def test_plans_are_in_use_and_better_than_uniform(run):
    plans = plans_in_effect(run)
    assert [plan["step"] for plan in plans] == [0, 12, 22, 32]
    for plan in plans[1:]:
        assert plan["error"] <= plan["budget"]
        assert plan["bytes"] <= plans[0]["bytes"]
        assert plan["bytes"] == sum(plan["layer_bytes"].values())
    assert summaries([run])[0].plan_gain > 1


def test_report_of_a_real_run(run, tmp_path):
    page = write_report([run], tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4


def test_loopback_counter_sees_what_is_sent():
    import socket

    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    before = loopback_bytes()
    receiver.sendto(bytes(10_000), receiver.getsockname())
    assert loopback_bytes() - before >= 10_000
