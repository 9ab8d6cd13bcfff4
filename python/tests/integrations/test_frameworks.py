"""What frameworks keep and log themselves."""


def test_loss_scales(run_ranks):
    script = "../integrations/ranks/loss_scales.py"
    assert "scaled by each framework" in run_ranks(2, script, timeout=300)


def test_tensorboard(run_ranks, tmp_path):
    script = "../integrations/ranks/logs.py"
    assert "logged by each framework" in run_ranks(2, script, str(tmp_path), timeout=300)
