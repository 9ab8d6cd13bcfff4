"""The one place that touches PyTorch's private names; ranks/torch_internals.py holds assertions."""

import subprocess
import sys

import torch


def test_every_private_name_is_there(run_ranks, tmp_path):
    assert "functions reach PyTorch" in run_ranks(2, "torch_internals.py", str(tmp_path))


def test_another_torch_than_that_of_the_build_is_said_at_once():
    program = (
        "import torch; torch.__version__ = '1.99.0+cpu'; import lgreco\n"
        "try: lgreco.compress\n"
        "except lgreco.ConfigError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    built_with = torch.__version__.split("+")[0]
    assert f"built with torch {built_with}, and this is torch 1.99.0" in said.stdout, said
