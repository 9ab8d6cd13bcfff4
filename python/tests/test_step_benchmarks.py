import pytest

from benchmarks.allreduce import MIB, readable, side_of
from benchmarks.contenders import FP16, FP32, LGRECO_POWERSGD, LGRECO_TIME
from benchmarks.scale_report import Growth, Scaling
from benchmarks.step_prediction import Conditions
from benchmarks.step_report import StepTime, batch_grid, targets
from lgreco.advise import NetworkTiming
from lgreco.step_time import early_share


def step_time(contender, seconds, link="1 Gb/s", predicted=None, samples=8):
    return StepTime(
        link=link,
        model="model",
        samples=samples,
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
    assert found[2].measured == "9.09%"
    found = targets(contest("1 Gb/s", slow, fast, slow, slow, predicted=0.2))
    assert [target.met for target in found] == [False, False, False, False]


def test_targets_of_the_slowest_link_and_of_none():
    slow, fast = [0.66, 0.66, 0.66], [0.1, 0.1, 0.1]
    both = targets(contest("100 Mb/s", slow, [0.2, 0.2, 0.2], fast, fast, predicted=0.66))
    assert [target.met for target in both] == [True, False, True]
    slower = targets(contest("unlimited", fast, fast, fast, [0.104, 0.104, 0.2], predicted=0.1))
    assert slower[0].met and slower[0].measured == "4.00%"


def test_ddp_shows_the_overlap_and_sums_at_a_rate_of_its_own():
    conditions = Conditions(
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
    assert early_share([300, 100]) == 0.75
    assert early_share([100]) == 0


def test_batches_meet_both_targets_or_not():
    rows = [
        step_time(name, [seconds] * 3, samples=samples)
        for samples, times in {4: (0.3, 0.3, 0.15), 8: (0.3, 0.3, 0.12)}.items()
        for name, seconds in zip((FP32, FP16, LGRECO_POWERSGD), times, strict=True)
    ]
    grid = batch_grid(rows)
    assert [(row[0], *row[-4:]) for row in grid.rows] == [
        ("4", "2.00", "2.00", "36.4%", "not both"),
        ("8", "2.50", "2.50", "9.1%", "both"),
    ]


def scaling(ranks, wall=(0.010, 0.010), **changed):
    settings = {
        "ranks": ranks,
        "cores": 2,
        "elements": 1_000_000,
        "layers": 1_000,
        "method": "quantize:4",
        "buckets": [1_000, 25_000, 20_000],
        "plain": {"wall": list(wall), "cpu": [0.005, 0.005]},
        "compressed": {"wall": list(wall), "cpu": [0.005, 0.005]},
        "sent_bytes": 0.0,
        "messages": 0.0,
        "memory": {"residuals": 5_000, "staging": 1_000},
        "grown": 0,
    }
    return Scaling(**settings | changed)


def test_cost_of_a_layer_is_beyond_plain_ddp():
    plain = {"wall": [0.010, 0.020], "cpu": [0.005, 0.005]}
    ours = {"wall": [0.012, 0.024], "cpu": [0.006, 0.006]}
    found = scaling(2, plain=plain, compressed=ours)
    assert found.wall_a_layer == pytest.approx(3e-6)
    assert found.cpu_a_layer == pytest.approx(1e-6)


def test_memory_may_be_the_residual_and_the_two_largest_buckets():
    assert scaling(2).allowed_bytes == pytest.approx(1.1 * (5_000 + 45_000))
    assert scaling(2).memory_bytes == 6_000


def test_messages_do_not_count_as_payload():
    collectives_a_bucket, buckets, peers = 2, 3, 7
    messages = peers * (collectives_a_bucket * buckets + 1)
    headers = 388 * messages + peers * collectives_a_bucket * 1_000  # a flag a layer in each
    assert scaling(8, sent_bytes=headers + 70_000.0, messages=messages).payload_bytes == 70_000


def test_growth_is_explained_by_traffic_and_ranks_a_core():
    growth = Growth(scaling(2, sent_bytes=4.0), scaling(8, wall=(0.04, 0.06), sent_bytes=7.0))
    assert growth.traffic == pytest.approx(1.75)
    assert growth.work_a_core == 4
    assert growth.compressed == pytest.approx(5)
    assert Growth(scaling(2, cores=16), scaling(8, cores=16)).work_a_core == 1


def test_sizes_of_one_tensor():
    assert side_of(1024) == 16 and readable(1024) == "1 KiB"
    assert 4 * side_of(64 * MIB) ** 2 == 64 * MIB and readable(64 * MIB) == "64 MiB"
