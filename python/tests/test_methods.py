from dataclasses import fields

import pytest

import lgreco
from lgreco import _core


@pytest.mark.parametrize(
    ("method", "spelling"),
    [
        (lgreco.Dense(), "dense"),
        (lgreco.Cast("bf16"), "cast:bf16"),
        (lgreco.Cast("fp16"), "cast:fp16"),
        (lgreco.Quantize(bits=4), "quantize:4"),
        (lgreco.Quantize(2, 1024, "stochastic"), "quantize:2:bucket=1024:rounding=stochastic"),
        (lgreco.TopK(density=0.01), "topk:0.01"),
        (lgreco.Entropy(), "entropy:2"),
        (lgreco.Entropy(rate=0.5), "entropy:0.5"),
        (lgreco.TopK(0.001, values="fp32"), "topk:0.001:values=fp32"),
        (lgreco.TopK(0.001, values="2"), "topk:0.001:values=2"),
        (lgreco.PowerSGD(rank=4), "low_rank:4"),
        (lgreco.PowerSGD(32, min_ratio=1.5), "low_rank:32:min_ratio=1.5"),
        (lgreco.PowerSGD(4, factors="bf16"), "low_rank:4:factors=bf16"),
        (lgreco.PowerSGD(4, factors=8), "low_rank:4:factors=8"),
        (lgreco.Quantize("2+4"), "quantize:2+4"),
        (lgreco.TopK("0.03+0.1", values="fp32"), "topk:0.03+0.1:values=fp32"),
        (lgreco.PowerSGD(4, factors="2"), "low_rank:4:factors=2"),
    ],
)
def test_spelling_round_trips(method, spelling):
    assert str(method) == spelling
    assert lgreco.method(spelling) == method


def test_every_method_of_the_table_has_a_class():
    for row in _core.method_table():
        method = lgreco.method(row["example"])
        assert str(method) == row["example"]
        keys = list(_core.parse_level(row["example"])["values"])
        assert [field.name for field in fields(method)][1:] == keys[1:]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: lgreco.PowerSGD(rank=0),
        lambda: lgreco.PowerSGD(rank=2.5),
        lambda: lgreco.PowerSGD(factors="fp16"),
        lambda: lgreco.PowerSGD(factors=1),
        lambda: lgreco.PowerSGD(rank="4+8"),
        lambda: lgreco.Quantize(bits="2+9"),
        lambda: lgreco.PowerSGD(factors=16),
        lambda: lgreco.Quantize(bits=9),
        lambda: lgreco.Quantize(bucket=7),
        lambda: lgreco.Quantize(rounding="up"),
        lambda: lgreco.TopK(density=0),
        lambda: lgreco.Entropy(rate=9),
        lambda: lgreco.TopK(density=float("nan")),
        lambda: lgreco.TopK(values="1"),
        lambda: lgreco.Cast("fp8"),
        lambda: lgreco.method("sparse:4"),
        lambda: lgreco.method(""),
    ],
)
def test_wrong_parameters_are_config_errors(wrong):
    with pytest.raises(lgreco.ConfigError) as caught:
        wrong()
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, lgreco.Error)


def test_unknown_method_names_the_known_ones():
    with pytest.raises(lgreco.ConfigError, match=r"known are dense, .*low_rank:4"):
        lgreco.method("sparse:4")


def test_a_method_stands_for_itself_and_nothing_else_does():
    assert lgreco.method(lgreco.TopK(0.1)) == lgreco.TopK(0.1) == lgreco.method("topk:0.1")
    for wrong in (4, None, ["low_rank:4"]):
        with pytest.raises(lgreco.ConfigError, match="or its spelling, such as 'low_rank:4'"):
            lgreco.method(wrong)
