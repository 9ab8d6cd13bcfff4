"""Each example runs on real ranks and prints what it promises."""

from pathlib import Path

from typer.testing import CliRunner

from lgreco.cli import app

EXAMPLES = "../../../examples/"


def test_ddp_minimal(run_ranks):
    assert "fewer bytes" in run_ranks(2, EXAMPLES + "ddp_minimal.py")


def test_adaptive_batch(run_ranks):
    printed = run_ranks(2, EXAMPLES + "adaptive_batch.py")
    assert float(printed.split("loss ")[1].split(",")[0]) < 0.5, printed
    assert 1 < float(printed.split(", ")[1].split(" ")[0]) < 4, printed


def test_outer_step(run_ranks):
    printed = run_ranks(2, EXAMPLES + "outer_step.py")
    assert "the same bits" in printed
    assert float(printed.split("accuracy ")[1].split(" %")[0]) > 85, printed


def test_resume(run_ranks, tmp_path: Path):
    first = run_ranks(2, EXAMPLES + "resume.py", str(tmp_path / "run"))
    assert "steps 0 to 50" in first
    assert len(list((tmp_path / "run").glob("rank*.pt"))) == 2
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path / "run/rank0.pt")])
    assert "rank 0 of 2 at step 50" in shown.output
    second = run_ranks(2, EXAMPLES + "resume.py", str(tmp_path / "run"))
    assert "steps 50 to 100" in second
    assert float(second.split("loss ")[1]) < float(first.split("loss ")[1])
