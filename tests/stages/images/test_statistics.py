"""Mean and standard deviation of each channel, and images normalised by them."""

import numpy as np
from image_files import random_pixels

from stages.images.statistics import BLOCK_IMAGES, Normalisation, normalisation_of

PIXELS = random_pixels(BLOCK_IMAGES + 5, 3, 4, 4) // np.array([1, 2, 5], np.uint8)[:, None, None]


def test_the_statistics_are_those_of_all_images_and_positions_whatever_their_order() -> None:
    found = normalisation_of(PIXELS)
    np.testing.assert_allclose(found.mean, (PIXELS / 255).mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(found.std, (PIXELS / 255).std((0, 2, 3)), rtol=1e-12)
    assert normalisation_of(PIXELS[np.random.default_rng(0).permutation(len(PIXELS))]) == found


def test_normalised_images_are_float32_with_mean_0_and_deviation_1() -> None:
    values = normalisation_of(PIXELS).applied(PIXELS)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(values.std((0, 2, 3)), 1, atol=1e-5)
    expected = (PIXELS[0] / 255 - np.array([[[0.5]], [[0.4]], [[0.3]]])) / np.array([[[0.2]], [[0.3]], [[0.25]]])
    found = Normalisation((0.5, 0.4, 0.3), (0.2, 0.3, 0.25)).applied(PIXELS[:1])
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_a_channel_of_one_value_becomes_0() -> None:
    flat = np.full((4, 1, 3, 3), 77, np.uint8)
    found = normalisation_of(flat)
    assert found.std == (1.0,)
    np.testing.assert_allclose(found.applied(flat), 0, atol=1e-6)
