"""What frameworks keep and log themselves."""

from typer.testing import CliRunner

from lgreco.cli import app


def test_loss_scales(run_ranks):
    script = "../integrations/ranks/loss_scales.py"
    assert "scaled by each framework" in run_ranks(2, script, timeout=300)


def test_logs_of_frameworks(run_ranks, tmp_path):
    script = "../integrations/ranks/logs.py"
    assert "logged by each framework" in run_ranks(2, script, str(tmp_path), timeout=300)

    logs = [str(tmp_path / f"{framework}.jsonl") for framework in ("lightning", "transformers")]
    page = tmp_path / "report.html"
    shown = CliRunner().invoke(app, ["report", *logs, "-o", str(page)])
    assert shown.exit_code == 0, shown.output
    text = page.read_text(encoding="utf-8")
    assert "lightning" in text and "transformers" in text and "low_rank:2" in text
