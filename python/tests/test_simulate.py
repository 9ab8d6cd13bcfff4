import json
import math
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from lgreco.cli import app
from lgreco.errors import ConfigError
from lgreco.known_models import KNOWN_MODELS
from lgreco.step_time import (
    Cluster,
    Node,
    Workload,
    bucket_bytes,
    collective_latency,
    simulate,
    simulate_ddp,
)

ONE_BUCKET = Workload(compute=0.1, buckets=[4_000_000], layers=10)
TWO_RANKS = Cluster(ranks=2, bandwidth=1e8, latency=0.001)


def test_ddp_with_one_bucket_on_two_ranks():
    step = simulate_ddp(ONE_BUCKET, TWO_RANKS)
    assert step.sent_bytes == 4e6
    assert step.wire_s == pytest.approx(0.04 + 2 * 0.001)
    assert step.exposed_s == step.wire_s
    assert step.step_s == pytest.approx(0.1 + 0.042)


def test_a_hook_of_half_the_bytes():
    step = simulate_ddp(ONE_BUCKET, TWO_RANKS, payload_bytes=2e6, codec=0.003)
    assert step.step_s == pytest.approx(0.1 + 0.003 + 0.02 + 2 * 0.001)


def test_a_coded_level_is_decoded_up_to_twice_and_sends_frames():
    step = simulate(
        ONE_BUCKET, TWO_RANKS, "quantize:4", payload_bytes=500_000, encode=0.002, decode=0.001
    )
    frames = 2 * 388 + 10  # one collective and the commit; a flag a layer in the one
    assert step.codec_s == pytest.approx(0.002 + 2 * 0.001)
    assert step.sent_bytes == 500_000 + frames
    assert step.wire_s == pytest.approx(2 * 0.001 + (500_000 + frames) / 1e8)
    assert step.step_s == pytest.approx(0.1 + step.codec_s + step.wire_s)
    four = Cluster(ranks=4, bandwidth=1e8, latency=0.001)
    step = simulate(ONE_BUCKET, four, "quantize:4", payload_bytes=0, encode=0.002, decode=0.001)
    assert step.codec_s == pytest.approx(0.002 + 1.75 * 0.001)
    assert step.sent_bytes == 3 * (3 * 388 + 2 * 10)


def test_low_rank_sums_its_factors_in_two_collectives_and_commits():
    step = simulate(
        ONE_BUCKET, TWO_RANKS, "low_rank:4", payload_bytes=50_000, encode=0.002, decode=0.001
    )
    frames = 3 * 388 + 2 * 10
    assert step.codec_s == pytest.approx(0.003)
    assert step.wire_s == pytest.approx(3 * 0.001 + (50_000 + frames) / 1e8)


def test_early_buckets_are_hidden_by_the_rest_of_the_backward_pass():
    halves = Workload(compute=0.1, buckets=[2_000_000, 2_000_000], layers=10, backward=0.5)
    assert halves.early == 0.5 and halves.window == pytest.approx(0.025)
    fast = Cluster(ranks=2, bandwidth=1e9, latency=0.0)
    assert simulate_ddp(halves, fast).exposed_s == pytest.approx(0.004 - 0.5 * 0.004)
    slow = Cluster(ranks=2, bandwidth=1e7, latency=0.0)
    assert simulate_ddp(halves, slow).exposed_s == pytest.approx(0.4 - 0.025)


def test_messages_grow_with_the_ranks():
    many = Cluster(ranks=1024, bandwidth=1e8, latency=0.001)
    step = simulate(ONE_BUCKET, many, "quantize:4", payload_bytes=500_000, encode=0, decode=0)
    assert step.sent_bytes == pytest.approx(2 * 1023 / 1024 * 500_000 + 1023 * (3 * 388 + 20))
    assert collective_latency(0.001, 1024) == pytest.approx(0.010)
    assert collective_latency(0.001, 1) == 0


FOUR_NODES = Cluster(ranks=8, bandwidth=1e8, latency=0.001, node=Node(2, link=1e10, copy=1e9))


def test_node_first_sends_what_one_rank_a_node_sends_and_codes_a_share():
    one_a_node = Cluster(ranks=4, bandwidth=1e8, latency=0.001)
    costs = {"payload_bytes": 500_000, "encode": 0.002, "decode": 0.001}
    step = simulate(ONE_BUCKET, FOUR_NODES, "quantize:4", **costs)
    alone = simulate(ONE_BUCKET, one_a_node, "quantize:4", **costs)
    # Twice the messages, each of half the layers; all 8 ranks commit, 6 of them elsewhere.
    frames = 388 * (2 * 2 * 3 + 2 * 6) - 388 * 3 * 3
    assert step.sent_bytes == alone.sent_bytes + frames
    assert step.codec_s == alone.codec_s / 2
    # Half of the 4 MB goes to the other GPU and comes back; each copies half to the host and back.
    assert step.staging_s == pytest.approx(2 * 2e6 / 1e10 + 2 * 2e6 / 1e9)
    assert step.step_s == pytest.approx(0.1 + step.codec_s + step.staging_s + step.wire_s)


def test_flat_sends_every_gpus_share_through_the_node_s_link():
    costs = {"payload_bytes": 500_000, "encode": 0.002, "decode": 0.001}
    step = simulate(ONE_BUCKET, FOUR_NODES, "quantize:4", **costs, node_first=False)
    # Each of 2 GPUs sends two eighths of the payload to each of 6 ranks, in 2 of 3 collectives.
    assert step.sent_bytes == 2 * 6 * (2 * 500_000 / 8 + 20) + 388 * 2 * 6 * 3
    assert step.codec_s == pytest.approx(0.002 + 1.875 * 0.001)
    assert step.staging_s == pytest.approx(2 * 4e6 / 1e9)


def test_plain_ddp_enters_a_node_once():
    step = simulate_ddp(ONE_BUCKET, FOUR_NODES)
    assert step.sent_bytes == pytest.approx(2 * 7 / 8 * 4e6)
    one_node = Cluster(ranks=2, bandwidth=1e8, latency=0.0, node=Node(2, link=1e10, copy=1e9))
    step = simulate_ddp(ONE_BUCKET, one_node)
    assert step.sent_bytes == 0 and step.wire_s == pytest.approx(4e6 / 1e10)


def test_gpus_are_compared_with_and_without_node_first(one_layer):
    arguments = ["simulate", str(one_layer), "--compute=100ms", "--ranks=16", "--level=quantize:4"]
    arguments += ["--rate=quantize:4=2GB", "--gpus-per-node=8", "--link-in-node=15GB", "--json"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    steps = {step["level"]: step for step in json.loads(result.output)["steps"]}
    assert steps["quantize:4"]["node"] == {"gpus": 8, "link": 15e9, "copy": 25e9}
    assert steps["quantize:4, flat"]["sent_bytes"] > 7 * steps["quantize:4"]["sent_bytes"]


def test_nothing_is_sent_on_one_rank():
    alone = Cluster(ranks=1, bandwidth=1e8, latency=0.001)
    assert simulate_ddp(ONE_BUCKET, alone).step_s == 0.1


def test_buckets_fill_from_the_last_layer_and_the_first_is_small():
    mib = 2**20
    assert bucket_bytes([8 * mib, 3 * mib, 3 * mib, mib], 5 * mib) == [mib, 6 * mib, 8 * mib]
    assert bucket_bytes([100, 200], 5 * mib) == [300]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet50", 25_557_032),
        ("transformer-xl-base", 191_950_298),
        ("llama-7b", 6_738_415_616),
    ],
)
def test_known_models_have_their_parameters(name, parameters):
    model = KNOWN_MODELS[name]()
    assert sum(math.prod(shape) for shape in model.shapes.values()) == parameters
    assert model.flops > 0


@pytest.fixture
def one_layer(tmp_path):
    path = tmp_path / "layer.json"
    path.write_text(json.dumps({"weight": [1000, 1000]}))
    return path


def test_the_command_says_that_it_computed(one_layer):
    arguments = [
        "simulate", one_layer, "--compute=100ms", "--ranks=2", "--bandwidth=100MB",
        "--latency=1ms", "--level=quantize:4", "--rate=quantize:4=2GB", "--rate=cast:fp16=1GB",
    ]  # fmt: skip
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    found = json.loads(result.output)
    assert found["computed"] is True
    plain, half, quantized = found["steps"]
    assert plain["step_s"] == pytest.approx(0.142) and plain["speedup"] == 1
    assert half["codec_s"] == pytest.approx(2 * 0.004)
    assert half["step_s"] == pytest.approx(0.1 + 0.008 + 0.022)
    assert quantized["codec_s"] == pytest.approx(0.002 + 2 * 0.002)
    assert quantized["payload_bytes"] == 500_000 + 2 * math.ceil(1_000_000 / 512)
    table = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False).output
    assert table.startswith("Computed, not measured.") and "100 ms" in table


def test_threads_share_the_codec_work(one_layer):
    arguments = ["simulate", str(one_layer), "--compute=1ms", "--ranks=2", "--level=quantize:4"]
    arguments += ["--rate=quantize:4=2GB", "--rate=cast:fp16=1GB", "--threads=4", "--json"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert json.loads(result.output)["steps"][2]["codec_s"] == pytest.approx(0.006 / 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "missing: no such file"),
        (["resnet50", "--ranks=0"], "at least 1 rank"),
        (["resnet50", "--bandwidth=fast"], "'fast' is no bandwidth"),
        (["resnet50", "--latency=soon"], "'soon' is no time"),
        (["resnet50", "--level=magic"], "unknown method"),
        (["resnet50", "--rate=2GB"], "'2GB' is no rate"),
        (["resnet50", "--tflops=0"], "--tflops must be positive"),
        (["resnet50", "--threads=0"], "--threads must be at least 1"),
        (["resnet50", "--overlap=2"], "overlap must be between 0 and 1"),
        (["resnet50", "--bucket-mb=0"], "a bucket must hold at least 1 byte"),
        (["resnet50", "--gpus-per-node=0"], "a node must have at least 1 GPU"),
        (["resnet50", "--gpus-per-node=3"], "8 ranks are no whole number of nodes with 3 GPUs"),
    ],
)
def test_wrong_input_is_a_config_error(arguments, message):
    with pytest.raises(ConfigError, match=message):
        CliRunner().invoke(app, ["simulate", *arguments], catch_exceptions=False)


def test_shapes_without_compute_are_one_line(one_layer):
    command = [sys.executable, "-c", "from lgreco.cli import main; main()", "simulate"]
    result = subprocess.run([*command, str(one_layer)], capture_output=True, text=True, check=False)
    assert result.returncode == 2 and result.stdout == ""
    assert "give --compute" in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_the_simulated_model_needs_elements(tmp_path):
    path = tmp_path / "empty.json"
    path.write_text("{}")
    with pytest.raises(ConfigError, match="has no elements"):
        CliRunner().invoke(app, ["simulate", str(path), "--compute=1ms"], catch_exceptions=False)
