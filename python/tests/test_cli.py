import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import lgreco
from lgreco.cli import app
from lgreco.report import summaries, write_report
from lgreco.run_log import RunLog, read_run_log

FACTORY = "experiments.resnet18.model:cifar100"


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def shapes_file(tmp_path, resnet18_shapes):
    path = tmp_path / "shapes.json"
    path.write_text(json.dumps(resnet18_shapes))
    return path


def test_published_ratios_of_resnet18(shapes_file):
    levels = [f"--method=low_rank:{rank}" for rank in (1, 2, 4, 8)]
    results = json.loads(run("ratio", shapes_file, *levels, "--json"))["levels"]
    assert [round(r["published_ratio"], 1) for r in results] == [243.3, 136.0, 72.2, 37.3]
    assert all(r["elements"] == 11_220_132 for r in results)


def test_ratio_of_checkpoint_and_factory_agree_with_shapes(shapes_file, tmp_path, monkeypatch):
    from experiments.resnet18.model import cifar100

    monkeypatch.chdir(tmp_path)
    torch.save({"model": cifar100().state_dict()}, "model.pt")
    expected = run("ratio", shapes_file, "--method=quantize:4", "--json")
    assert run("ratio", "model.pt", "--method=quantize:4", "--json") == expected
    assert run("ratio", FACTORY, "--method=quantize:4", "--json") == expected


def test_ratio_prints_a_table(shapes_file):
    output = run("ratio", shapes_file, "--method=low_rank:4")
    assert "72.2" in output and "11,220,132" in output


def test_plan_from_gradients(tmp_path):
    rng = np.random.default_rng(0)
    low_rank = np.outer(rng.standard_normal(100), rng.standard_normal(200))
    gradients = {"a": low_rank, "b": rng.standard_normal((100, 200)), "bias": rng.random(100)}
    np.savez(tmp_path / "g.npz", **{k: v.astype(np.float32) for k, v in gradients.items()})
    plan_file = tmp_path / "plan.json"
    arguments = ("plan", tmp_path / "g.npz", "--reference=low_rank:4", f"--output={plan_file}")
    result = json.loads(run(*arguments, "--json"))
    assert result["bytes"] < result["reference_bytes"]
    assert result["error"] <= result["budget"]
    assert result["lower_bound"] == result["bytes"]
    assert result["levels"]["a"] == "low_rank:2"
    assert lgreco.Plan.load(plan_file)["a"] == lgreco.PowerSGD(2)
    assert "gap 0.000 %" in run(*arguments)
    assert "low_rank:2" in run("inspect", plan_file)


def test_plan_from_a_table(tmp_path):
    table = {
        "names": ["x", "y"],
        "levels": ["quantize:2", "quantize:4"],
        "costs": [[1, 2], [10, 20]],
        "errors": [[5, 1], [0.5, 0.1]],
    }
    (tmp_path / "table.json").write_text(json.dumps(table))
    result = json.loads(
        run("plan", tmp_path / "table.json", "--reference=quantize:4", "--alpha=1.5", "--json")
    )
    assert result["levels"] == {"x": "quantize:4", "y": "quantize:2"}


def write_log(path):
    log = RunLog(path)
    log.start("tiny", "made up", 2, {"w": [64, 64]}, {})
    for step in range(1, 31):
        log.step(step, 1 / step)
    log.plan_if_new(lgreco.Plan({"w": lgreco.PowerSGD(4)}, bytes=2048), -1)
    for version, step, rank in ((1, 10, 2), (2, 20, 3), (3, 30, 1)):  # the last is never used
        plan = lgreco.Plan(
            {"w": lgreco.PowerSGD(rank)}, bytes=512 * rank, step=step, version=version, budget=1
        )
        log.plan_if_new(plan, version - 1)
    log.evaluation(30, 50.0, 1.0, 3000.0)
    log.end(
        steps=30, seconds=3.0, compute_s=0.05, bytes_sent=3000.0, loopback_bytes=3100.0,
        accuracy=50.0, loss=1.0, stats={"encode_s": 0.3, "decode_s": 0.3, "plan_s": 0.1},
    )  # fmt: skip
    log.close()


def test_report_is_one_file_and_inspect_reads_the_log(tmp_path):
    write_log(tmp_path / "run.jsonl")
    output = tmp_path / "report.html"
    result = json.loads(run("report", tmp_path / "run.jsonl", "-o", output, "--json"))
    page = output.read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http:" not in page and "https:" not in page
    summary = result["runs"][0]
    assert summary["counted"] == 100.0
    assert summary["plans"] == 2 and summary["within_budget"]
    # ten steps with 1,024 bytes, ten with 1,536, instead of twenty with 2,048
    assert summary["plan_gain"] == pytest.approx(2048 * 20 / (1024 * 10 + 1536 * 10))
    assert summary["plan_gain_min"] == pytest.approx(2048 / 1536)
    assert "1.60x" in page and "tiny" in page
    assert "tiny" in run("inspect", tmp_path / "run.jsonl")


def test_report_computes_step_times_from_the_fastest_compute(tmp_path):
    write_log(tmp_path / "a.jsonl")
    slow = (tmp_path / "a.jsonl").read_text().replace('"compute_s": 0.05', '"compute_s": 0.5')
    (tmp_path / "b.jsonl").write_text(slow)
    for summary in summaries([read_run_log(tmp_path / name) for name in ("b.jsonl", "a.jsonl")]):
        # 0.6 seconds of encode and decode and 3,000 bytes in 30 steps
        assert summary.step_at(1e3) == pytest.approx(0.05 + 0.02 + 0.1)


def test_report_refuses_an_unfinished_run(tmp_path):
    write_log(tmp_path / "run.jsonl")
    lines = (tmp_path / "run.jsonl").read_text().splitlines()
    (tmp_path / "run.jsonl").write_text("\n".join(lines[:-1]))
    with pytest.raises(lgreco.StateError, match="'tiny' has not finished"):
        write_report([read_run_log(tmp_path / "run.jsonl")], tmp_path / "report.html")


def test_inspect_reads_a_saved_state(tmp_path):
    state = {
        "format": 1, "rank": 0, "size": 2, "step": 5, "stats": {},
        "plan": {"levels": {"w": "low_rank:2"}},
        "layers": {"w": {"residual": torch.ones(4, 4), "factor": torch.ones(2, 4)}},
    }  # fmt: skip
    torch.save(state, tmp_path / "state.pt")
    output = run("inspect", tmp_path / "state.pt")
    assert "step 5" in output and "2x4" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ratio", "missing.json", "--method=dense"], "cannot read missing.json"),
        (["ratio", "missing", "--method=dense"], "no such file"),
        (["ratio", "no.such:thing", "--method=dense"], "cannot call it"),
        (["inspect", "missing.json"], "no such file"),
        (["report", "missing.jsonl"], "cannot read"),
        (["plan", "missing.npz", "--reference=low_rank:4"], "cannot read"),
        (["plan", "missing.npz", "--reference=magic"], "unknown method"),
    ],
)
def test_errors_are_one_line_and_status_2(arguments, message, tmp_path):
    command = [sys.executable, "-c", "from lgreco.cli import main; main()", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 2
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1
