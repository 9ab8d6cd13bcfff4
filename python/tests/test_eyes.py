"""What a user sees: on real ranks, and of the package itself."""

import subprocess
import sys

import pytest

import lgreco
from lgreco.policies import Policy


def test_intervals_trackers_and_logs_of_a_run(run_ranks, tmp_path):
    pytest.importorskip("tensorboard", reason="a part of the extra 'test'")
    assert "seen" in run_ranks(2, "eyes.py", str(tmp_path))


def test_dir_is_the_public_names():
    assert dir(lgreco) == sorted(lgreco.__all__)
    assert all(hasattr(lgreco, name) for name in dir(lgreco))
    assert not hasattr(lgreco, "no_such_name")


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import lgreco
for name in ("compress", "compress_replicas", "Compression", "Aggregator"):
    assert not hasattr(lgreco, name) and getattr(lgreco, name, 1) == 1 and name in dir(lgreco)
try:
    lgreco.compress
except AttributeError as error:
    assert isinstance(error, lgreco.ConfigError)
    assert "'compress' needs PyTorch" in str(error) and "pip install" in str(error), error
else:
    raise AssertionError
try:
    from lgreco import compress
except ImportError as error:
    assert "compress" in str(error)
else:
    raise AssertionError
assert lgreco.RunLog(None).step(1.0) is None
"""


def test_what_needs_torch_is_no_attribute_without_it():
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


METHODS = [
    lgreco.Dense(),
    lgreco.Cast("fp16"),
    lgreco.Quantize(4),
    lgreco.Quantize("2+4", rounding="stochastic"),
    lgreco.TopK(0.01),
    lgreco.Entropy(0.5),
    lgreco.PowerSGD(4, factors=8),
]
POLICIES = [
    lgreco.Uniform(),
    lgreco.LGreCo(),
    lgreco.LGreCo(every=10, levels=[lgreco.Quantize(2), lgreco.TopK(0.5)]),
    lgreco.Accordion(METHODS[2], METHODS[3], then=lgreco.LGreCo(alpha=0.5)),
    lgreco.Fixed({"head.*": lgreco.Dense()}),
]


@pytest.mark.parametrize("value", METHODS + POLICIES, ids=repr)
def test_a_repr_makes_an_equal_object(value):
    assert eval(repr(value), vars(lgreco)) == value


def test_a_repr_has_no_defaults_but_the_first_field():
    shown = [repr(value) for value in (METHODS[2], METHODS[6], POLICIES[0], POLICIES[1])]
    assert shown == ["Quantize(bits=4)", "PowerSGD(rank=4, factors=8)", "Uniform()",
                     "LGreCo(every=1000)"]  # fmt: skip


def test_plans_show_counts_and_not_each_layer():
    levels = {f"layer{i}": lgreco.PowerSGD(4) for i in range(100)} | {"bias": lgreco.Dense()}
    plan = lgreco.Plan(levels, bytes=12345, version=2, step=7)
    assert repr(plan) == (
        f"<lgreco.Plan {plan.hash}: version 2, from step 7, 101 layers (100 x low_rank:4, "
        "1 x dense), 12,345 bytes>"
    )
    assert repr(lgreco.Fixed(levels)) == "<lgreco.Fixed of 101 names and patterns>"


def test_a_policy_of_ones_own_may_show_itself():
    class Own(Policy):
        def __repr__(self):
            return "mine"

    assert repr(Own()) == "mine"
