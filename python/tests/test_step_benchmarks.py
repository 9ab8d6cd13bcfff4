import pytest

from benchmarks.allreduce import MIB, readable, side_of
from benchmarks.contenders import FP16, FP32, LGRECO_POWERSGD, LGRECO_TIME, BucketClock
from benchmarks.scale import Scaling
from benchmarks.step_prediction import Conditions
from benchmarks.step_report import StepTime, targets
from lgreco.advise import NetworkTiming


def step_time(contender, seconds, link="1 Gb/s", predicted=None):
    return StepTime(
        link=link,
        model="model",
        contender=contender,
        compute=[0.10, 0.12, 0.11],
        seconds=seconds,
        encode_s=None,
        decode_s=None,
        wait_s=None,
        sent_bytes=None,
        wire_s=None,
        predicted_s=predicted,
        window_s=0.0,
        early=0.0,
        overlap=1.0,
        reduce_bandwidth=1.0,
        bandwidth=1.0,
        latency=0.0,
        levels={},
    )


def contest(link, fp32, fp16, powersgd, by_time, predicted=None):
    return [
        step_time(FP32, fp32, link, predicted),
        step_time(FP16, fp16, link),
        step_time(LGRECO_POWERSGD, powersgd, link),
        step_time(LGRECO_TIME, by_time, link),
    ]


def test_ratios_and_exposed_time_are_medians_of_rounds():
    ours = step_time(LGRECO_POWERSGD, [0.11, 0.15, 0.12])
    assert ours.exposed == pytest.approx(0.01)
    assert step_time(FP32, [0.22, 0.60, 0.12]).slower_than(ours) == pytest.approx(2.0)


def test_targets_at_one_gigabit():
    slow, fast = [0.30, 0.30, 0.30], [0.11, 0.13, 0.12]
    found = targets(contest("1 Gb/s", slow, slow, fast, fast, predicted=0.27))
    assert [target.met for target in found] == [True, True, True, True]
    assert found[2].measured == "+9.1%"
    found = targets(contest("1 Gb/s", slow, fast, slow, slow, predicted=0.2))
    assert [target.met for target in found] == [False, False, False, False]


def test_targets_of_the_slowest_link_and_of_none():
    slow, fast = [0.66, 0.66, 0.66], [0.1, 0.1, 0.1]
    both = targets(contest("100 Mb/s", slow, [0.2, 0.2, 0.2], fast, fast, predicted=0.66))
    assert [target.met for target in both] == [True, False, True]
    slower = targets(contest("unlimited", fast, fast, fast, [0.104, 0.104, 0.2], predicted=0.1))
    assert slower[0].met and slower[0].measured == "+4.0%"


def test_ddp_shows_the_overlap_and_sums_at_a_rate_of_its_own():
    conditions = Conditions.of(
        compute=0.1,
        window=0.05,
        bucket_bytes=[3_000_000, 1_000_000],
        ranks=2,
        reduce_bandwidth=1e7,
        network=NetworkTiming(bandwidth=5e6, latency=0.001),
        ddp=0.1 + 0.38,
    )
    wire = 4e6 / 1e7 + 4 * 0.001
    assert conditions.early == 0.75
    assert conditions.overlap == pytest.approx((wire - 0.38) / 0.05)
    assert conditions.peer_wire(FP16) == pytest.approx(2e6 / 1e7 + 4 * 0.001)
    assert conditions.wire(1e6, 3) == pytest.approx(1e6 / 5e6 + 3 * 0.001)
    assert conditions.step(0.01, wire, 1.0) == pytest.approx(0.1 + 0.01 + wire - 0.05)


def test_buckets_before_the_last_are_early():
    assert BucketClock(elements=[300, 100]).early == 0.75
    assert BucketClock(elements=[100]).early == 0


def test_cost_of_a_layer_is_beyond_plain_ddp():
    plain = {"wall": [0.010, 0.020], "cpu": [0.005, 0.005]}
    ours = {"wall": [0.012, 0.024], "cpu": [0.006, 0.006]}
    scaling = Scaling(2, 1_000, "low_rank:4", plain, ours, 0.0, {}, 0)
    assert scaling.wall_a_layer == pytest.approx(3e-6)
    assert scaling.cpu_a_layer == pytest.approx(1e-6)


def test_sizes_of_one_tensor():
    assert side_of(1024) == 16 and readable(1024) == "1 KiB"
    assert 4 * side_of(64 * MIB) ** 2 == 64 * MIB and readable(64 * MIB) == "64 MiB"
