import json
import sys
from pathlib import Path

import pytest

import lgreco
from lgreco import step_time
from lgreco.advise import Advice, LevelTiming, Measurements, NetworkTiming, advice_from
from lgreco.cli import units
from tools.ranks import on_loopback, run, torchrun

SCRIPT = Path(__file__).parent / "ranks/advised.py"
FACTORIES = """
import torch
from torch import nn

def tiny():
    model = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
    return model, (torch.randn(8, 32), torch.randint(10, (8,))), nn.CrossEntropyLoss()

def wrong():
    return nn.Linear(3, 3)
"""


def lgreco_advise(folder, *arguments, under_torchrun=False):
    command = [sys.executable, "-c", "from lgreco.cli import main; main()", "advise"]
    if under_torchrun:
        command = torchrun(2, "-m", "lgreco.advise")
    return run([*command, *map(str, arguments)], timeout=300, env=on_loopback(), cwd=folder)


def result_of(process):
    assert process.returncode == 0, process.stdout + process.stderr
    return json.loads(process.stdout)


@pytest.fixture
def factories(tmp_path):
    (tmp_path / "jobs.py").write_text(FACTORIES)
    return tmp_path


def test_a_script_under_torchrun_on_a_slow_network_should_compress(tmp_path):
    process = lgreco_advise(
        tmp_path, "--bandwidth=10Mbit", "--json", SCRIPT, "--", "--width=300", "--accumulate=2",
        under_torchrun=True,
    )  # fmt: skip
    result = result_of(process)
    assert result["compress"] and result["speedup"] > 2
    assert result["verdict"].startswith("compress with ")
    measured = result["measured"]
    assert measured["ranks"] == 2 and measured["layers"] == 4
    assert measured["gradient_bytes"] == 4 * 2 * (300 * 300 + 300)
    assert measured["ddp_s"] > 0 and measured["compute_s"] > 0
    assert measured["network"]["measured"] and not result["network"]["measured"]
    assert result["network"]["bandwidth"] == 10e6 / 8
    plain = result["predictions"][0]
    assert plain["wire_s"] > 4 * 2 * (300 * 300) / (10e6 / 8)
    levels = {p["level"]: p["payload_bytes"] for p in result["predictions"]}
    assert levels["cast:bf16"] == measured["gradient_bytes"] / 2
    assert levels["low_rank:4"] == 4 * 2 * (4 * 600 + 300)


def test_a_tiny_model_on_a_fast_network_should_not_compress(factories):
    process = lgreco_advise(factories, "jobs:tiny", "--bandwidth=100Gbit", "--latency=1us")
    assert process.returncode == 0, process.stderr
    assert "Advice: don't compress" in process.stdout
    assert "How sure" in process.stdout and "The network is the given one" in process.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.py"], "missing.py: no such file"),
        (["no_such_module"], "no such module"),
        (["jobs:tiny", "extra"], "a factory takes no arguments"),
        (["jobs:tiny", "--bandwidth=fast"], "'fast' is no bandwidth"),
        (["jobs:tiny", "--bandwidth=0"], "'0' is no bandwidth"),
        (["jobs:tiny", "--latency=soon"], "'soon' is no time"),
        (["jobs:tiny", "--level=magic"], "unknown method"),
    ],
)
def test_wrong_input_is_one_line(factories, arguments, message):
    check_one_line(lgreco_advise(factories, *arguments), message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jobs:wrong"], "must return (model, batch, loss_function)"),
        (["jobs:missing"], "cannot call it"),
        ([SCRIPT, "--", "--steps=5"], "ended after 4 steps"),
        ([SCRIPT, "--", "--compress"], "remove that call"),
    ],
)
def test_what_the_ranks_find_wrong_is_one_line(factories, arguments, message):
    check_one_line(lgreco_advise(factories, *arguments), message)


def check_one_line(process, message):
    assert process.returncode == 2, process.stdout + process.stderr
    assert message in process.stderr and len(process.stderr.strip().splitlines()) == 1
    assert process.stdout == ""


def measurements(**changes):
    values = {
        "ranks": 2,
        "layers": 3,
        "gradient_bytes": 1_000_000,
        "buckets": 1,
        "compute_s": 0.1,
        "ddp_s": 0.15,
        "window_s": 0.0,
        "early": 0.0,
        "network": NetworkTiming(bandwidth=1e8, latency=0.0),
        "levels": [
            LevelTiming("quantize:4", 125_000, lost=0.1, encode_s=0.002, decode_s=0.001),
            LevelTiming("low_rank:4", 10_000, lost=0.5, encode_s=0.003, decode_s=0.002),
        ],
    }
    return Measurements(**values | changes)


def test_predictions_are_compute_codec_and_wire():
    advice = advice_from(measurements(), NetworkTiming(1e6, 0.01), ranks=4)
    plain, quantized, low_rank = advice.predictions
    assert plain.step_s == pytest.approx(0.1 + 1.5 + 2 * 0.01)
    assert quantized.step_s == pytest.approx(0.1 + (0.002 + 1.75 * 0.001) + 0.1875 + 3 * 0.01)
    assert low_rank.step_s == pytest.approx(0.1 + 0.005 + 0.015 + 5 * 0.01)
    assert advice.compress and advice.level == "low_rank:4"
    assert advice.speedup == pytest.approx(plain.step_s / low_rank.step_s)
    assert advice.ddp_predicted_s == pytest.approx(0.11) and advice.off == pytest.approx(4 / 15)


def test_ranks_of_a_node_share_what_goes_between_nodes():
    network = NetworkTiming(1e6, 0.01)
    in_nodes = measurements(ranks=8, ranks_of_node=2, node_s=0.004, copy_s=0.006)
    alone = advice_from(measurements(ranks=4), network).predictions[2]
    shared = advice_from(in_nodes, network).predictions[2]
    assert shared.staging_s == pytest.approx(0.004 + 0.006 / 2)
    assert shared.codec_s == pytest.approx(alone.codec_s / 2)
    assert shared.wire_s - 5 * 0.01 == pytest.approx((alone.wire_s - 5 * 0.01) / 2)
    flat = advice_from(measurements(ranks=8, copy_s=0.006), network).predictions[2]
    assert flat.staging_s == 0.006 and flat.wire_s > shared.wire_s


def test_the_gentlest_of_equally_fast_levels_wins():
    levels = [
        LevelTiming("topk:0.01", 10_000, lost=0.9, encode_s=0.001, decode_s=0.001),
        LevelTiming("quantize:4", 12_000, lost=0.1, encode_s=0.001, decode_s=0.001),
    ]
    advice = advice_from(measurements(levels=levels), NetworkTiming(1e6, 0.0))
    assert advice.predictions[1].step_s < advice.predictions[2].step_s
    assert advice.level == "quantize:4"


def test_a_gain_too_small_to_matter_is_no_reason_to_compress():
    levels = [LevelTiming("quantize:4", 0, lost=0.1, encode_s=0.0, decode_s=0.0)]
    network = NetworkTiming(1e6 / 0.004, 0.0)  # DDP needs 4 % more than compute
    advice = advice_from(measurements(levels=levels), network)
    assert advice.speedup == pytest.approx(1.04) and not advice.compress


def test_advice_survives_json():
    advice = advice_from(measurements())
    assert Advice.from_dict(json.loads(json.dumps(advice.to_dict()))) == advice


@pytest.mark.parametrize(
    ("wire", "early", "window", "overlap", "exposed"),
    [
        (10, 1, 4, 1, 6),
        (10, 1, 4, 0.5, 8),
        (3, 1, 4, 0, 3),
        (4, 0.75, 10, 1, 1),  # the last bucket cannot be hidden
        (4, 0.75, 10, 0.5, 2.5),
        (3, 0, 0, 1, 3),
    ],
)
def test_exposed_and_overlap_are_inverse(wire, early, window, overlap, exposed):
    place = {"early": early, "window": window}
    assert step_time.exposed_seconds(wire, overlap=overlap, **place) == exposed
    if window:
        assert step_time.measured_overlap(exposed, wire, **place) == pytest.approx(overlap)


def test_overlap_stays_a_share():
    assert step_time.measured_overlap(exposed=20, wire=10, early=1, window=5) == 0
    assert step_time.measured_overlap(exposed=-1, wire=10, early=1, window=5) == 1


def test_overlap_is_assumed_where_a_step_cannot_show_it():
    # 4 of 100 s could be hidden: a wire that is 5 % slower in training looks like no overlap.
    assert step_time.measured_overlap(exposed=101, wire=100, early=0.8, window=4) == 1
    assert step_time.measured_overlap(exposed=101, wire=100, early=0.8, window=20) == 0


def test_what_is_hidden_here_is_hidden_on_another_network():
    # On 1e8 B/s the wire takes 10 ms, of which at most 8 can be hidden and 5 are.
    seen = measurements(window_s=0.02, early=0.8, buckets=5, ddp_s=0.105)
    advice = advice_from(seen, NetworkTiming(1e6, 0.0))
    assert advice.overlap == pytest.approx(5 / 8)
    assert advice.predictions[0].step_s == pytest.approx(0.1 + 1 - 5 / 8 * 0.02)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1Gbit", 1.25e8), ("10 Mbit/s", 1.25e6), ("125MB", 1.25e8), ("1e6", 1e6), ("8bit", 1)],
)
def test_bandwidths(text, expected):
    assert units.bandwidth(text) == expected


@pytest.mark.parametrize("text", ["", "fast", "1Mb", "-1", "1..2", "1 Xbit", "0"])
def test_what_is_no_bandwidth(text):
    with pytest.raises(lgreco.ConfigError, match="is no bandwidth"):
        units.bandwidth(text)


def test_times():
    assert units.seconds("100us") == pytest.approx(1e-4)
    assert units.seconds("0.5ms") == pytest.approx(5e-4)
    assert units.seconds("0") == 0 and units.seconds("2 s") == 2
    with pytest.raises(lgreco.ConfigError, match="is no time"):
        units.seconds("2h")
