import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lgreco
from lgreco import _core
from lgreco.codec import payload_bytes

METHODS = [
    lgreco.Dense(),
    lgreco.Cast("bf16"),
    lgreco.Cast("fp16"),
    *(lgreco.Quantize(bits) for bits in range(1, 9)),
    lgreco.Quantize(4, 64, "nearest"),
    lgreco.TopK(0.01),
    lgreco.TopK(0.5, "fp32"),
    lgreco.PowerSGD(1),
    lgreco.PowerSGD(4),
    lgreco.PowerSGD(3, factors="bf16"),
    lgreco.PowerSGD(3, factors=8),
    lgreco.PowerSGD(4, factors=2),
]


def gaussian(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (1000,), (30, 40), (8, 3, 3, 3), (0,), (4, 0)])
def test_size_is_known_beforehand(method, shape):
    payload = lgreco.encode(gaussian(shape), method)
    assert len(payload) == payload_bytes(method, shape)
    assert lgreco.decode(payload, shape, method).shape == shape


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(0, 3000),
    method=st.sampled_from(METHODS),
    seed=st.integers(0, 2**63),
    step=st.integers(0, 2**40),
)
def test_sizes_and_determinism_hold_for_any_count(count, method, seed, step):
    array = gaussian(count, seed=count)
    payload = lgreco.encode(array, method, seed=seed, step=step)
    assert len(payload) == payload_bytes(method, [count])
    assert payload == lgreco.encode(array, method, seed=seed, step=step)


def test_four_bits_of_a_million_values():
    array = gaussian(10**6)
    assert len(lgreco.encode(array, lgreco.Quantize(4))) <= 0.127 * array.nbytes


def test_errors_shrink_with_the_bits():
    array = gaussian(100_000)
    errors = [
        np.linalg.norm(array - lgreco.decode(lgreco.encode(array, m), array.shape, m))
        for m in (lgreco.Quantize(bits) for bits in range(1, 9))
    ]
    assert errors == sorted(errors, reverse=True)
    # A Lloyd-Max grid loses less than a uniform one over the range.
    unit = (array.max() - array.min()) / 255
    assert errors[-1] <= unit / np.sqrt(6) * np.sqrt(array.size)


def test_top_k_keeps_the_largest():
    array = gaussian((50, 40))
    decoded = lgreco.decode(lgreco.encode(array, m := lgreco.TopK(0.1, "fp32")), array.shape, m)
    kept = np.abs(array) >= np.sort(np.abs(array).ravel())[-200]
    np.testing.assert_array_equal(decoded, np.where(kept, array, 0))


def test_low_rank_of_a_low_rank_matrix_is_exact():
    array = (gaussian((60, 3), 1) @ gaussian((3, 80), 2)).astype(np.float32)
    decoded = lgreco.decode(lgreco.encode(array, m := lgreco.PowerSGD(4)), array.shape, m)
    np.testing.assert_allclose(decoded, array, atol=1e-4 * np.abs(array).max())


def test_dense_is_the_raw_values():
    array = gaussian(1001)
    assert lgreco.encode(array, lgreco.Dense()) == array.astype("<f4").tobytes()


def test_bf16_factors_are_the_rounded_fp32_factors():
    array = gaussian((60, 80))
    exact = np.frombuffer(lgreco.encode(array, lgreco.PowerSGD(4)), "<f4")
    rounded = np.frombuffer(lgreco.encode(array, m := lgreco.PowerSGD(4, factors="bf16")), "<u2")
    values = (rounded.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_allclose(values, exact, rtol=2**-8)
    p, q = values[:240].reshape(4, 60), values[240:].reshape(4, 80)
    decoded = lgreco.decode(rounded.tobytes(), array.shape, m)
    np.testing.assert_allclose(decoded, p.T @ q, atol=1e-5)


def test_top_k_positions_cost_little():
    count = 10**6
    payload = lgreco.encode(gaussian(count), lgreco.TopK(0.01))
    assert len(payload) <= 3.1 * 0.01 * count


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_damaged_payloads_are_refused(method):
    payload = lgreco.encode(gaussian(500), method)
    for length in (0, 1, len(payload) - 1):
        with pytest.raises(lgreco.ProtocolError):
            lgreco.decode(payload[:length], (500,), method)
    with pytest.raises(lgreco.ProtocolError):
        lgreco.decode(payload + b"x", (500,), method)


@settings(deadline=None, max_examples=100)
@given(data=st.data(), method=st.sampled_from(METHODS))
def test_any_bytes_are_refused_or_finite(data, method):
    size = payload_bytes(method, [100])
    payload = data.draw(st.binary(min_size=size, max_size=size))
    try:
        decoded = lgreco.decode(payload, (100,), method)
    except lgreco.ProtocolError:
        return
    assert np.isfinite(decoded).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_arrays_are_refused(bad):
    array = gaussian(10)
    array[3] = bad
    with pytest.raises(lgreco.ConfigError, match="NaN or infinite"):
        lgreco.encode(array, lgreco.Quantize(4))


def test_other_dtypes_are_refused():
    with pytest.raises(lgreco.ConfigError, match="float64"):
        lgreco.encode(np.zeros(4), lgreco.Dense())


def test_overflow_of_the_target_type_is_refused():
    with pytest.raises(lgreco.ConfigError, match="too large"):
        lgreco.encode(np.array([1e5], dtype=np.float32), lgreco.Cast("fp16"))


def test_cost_table_agrees_with_compress_and_measure():
    gradients = {"a": gaussian((64, 96)), "b": gaussian(5000)}
    levels = [lgreco.Dense(), lgreco.Quantize(4), lgreco.TopK(0.1), lgreco.PowerSGD(2)]
    table = lgreco.cost_table(gradients, levels)
    assert table.names == ["a", "b"]
    assert table.levels == levels
    for row, array in enumerate(gradients.values()):
        assert list(table.costs[row]) == [payload_bytes(m, array.shape) for m in levels]
        for column, m in enumerate(levels[:3]):
            decoded = lgreco.decode(lgreco.encode(array, m), array.shape, m)
            np.testing.assert_allclose(
                table.errors[row, column], np.linalg.norm(array - decoded), rtol=0.02
            )
    singular = np.linalg.svd(gradients["a"].astype(np.float64), compute_uv=False)
    np.testing.assert_allclose(table.errors[0, 3], np.sqrt((singular[2:] ** 2).sum()), rtol=1e-6)


def test_level_of_a_layer_it_does_not_suit():
    assert _core.resolve("low_rank:4", [512]) == "dense"
    assert _core.resolve("low_rank:4", [512, 4608]) == "low_rank:4"
    assert _core.resolve("quantize:4", [64], "bf16") == "cast:bf16"


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"step": 1.5}, {"seed": None}, {"step": 2**64}])
def test_seeds_and_steps_are_whole_numbers(wrong):
    (name,) = wrong
    with pytest.raises(lgreco.ConfigError, match=f"{name} must be a whole number"):
        lgreco.encode(gaussian(10), lgreco.Quantize(4), **wrong)
