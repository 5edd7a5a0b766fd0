"""The tier int8: one byte a value, the error at most half a step."""

import numpy as np

from stages.outputs.quantization import dequantise, quantise


def test_no_value_is_further_off_than_half_a_scale() -> None:
    values = (np.random.default_rng(0).standard_t(3, size=(500, 16)) * np.arange(1, 17)).astype(np.float32)
    codes, scales = quantise(values)
    assert codes.dtype == np.uint8
    assert (np.abs(dequantise(codes, scales) - values) <= scales.scale * 0.5001).all()


def test_the_ends_of_a_dimensions_range_are_kept() -> None:
    values = np.array([[-3.0, 5.0], [7.0, 5.5], [1.0, 5.25]], np.float32)
    codes, scales = quantise(values)
    np.testing.assert_allclose(dequantise(codes, scales)[:2], values[:2], rtol=1e-6)
    assert codes[:2].tolist() == [[0, 0], [254, 254]]


def test_a_dimension_in_which_all_rows_agree_is_exact() -> None:
    values = np.full((4, 3), 0.1, np.float32)
    codes, scales = quantise(values)
    assert np.array_equal(dequantise(codes, scales), values)


def test_noise_does_not_grow_with_a_dimensions_distance_from_zero() -> None:
    """The reason for the offset: the first token's states hardly vary between rows, far from zero."""
    values = (1000 + np.random.default_rng(1).normal(size=(2000, 8))).astype(np.float32)
    codes, scales = quantise(values)
    noise = np.square(dequantise(codes, scales) - values).mean()
    assert noise / values.var(0).mean() < 1e-3
