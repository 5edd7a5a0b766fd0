"""Rows of images as a training reads them: batches, views, and rows that are taken and joined."""

import numpy as np
import pytest
import torch
from image_files import random_pixels

from stages.images.pixel_key import pixel_key
from stages.images.pixel_reader import MappedPixels, StoredImages
from stages.images.pixel_rows import PixelRows, pixel_rows
from stages.images.statistics import normalisation_of
from stages.images.views import augmented, draws_of, view_key
from stages.specs.axes.augmentation import Augmentation

IMAGES = random_pixels(20, 3, 6, 5)
NORMALISATION = normalisation_of(IMAGES)
THREE = Augmentation(views=3, padding=2)


def rows_of(images: np.ndarray, augmentation: Augmentation = THREE) -> PixelRows:
    keys = np.array([list(pixel_key(image)) for image in images], np.uint8)
    count = len(images)
    pixels = MappedPixels((images[:7], images[7:]))
    stored = StoredImages(pixels, keys, np.arange(count), np.zeros(count, np.int64), np.ones(count, bool))
    return pixel_rows(stored, NORMALISATION, augmentation)


ALL = rows_of(IMAGES)


def view_of(view: int, *rows: int) -> np.ndarray:
    """The numbers of a view of these of the 20 images."""
    return np.array(rows, np.int64) + 20 * view


def numbers(*rows: int) -> np.ndarray:
    return np.array(rows, np.int64)


def test_a_batch_of_view_0_has_the_normalised_images_in_the_order_of_the_rows() -> None:
    found = ALL.collate(numbers(12, 3, 3, 0))
    assert list(found) == ["pixel_values"]
    assert found["pixel_values"].dtype == np.float32
    np.testing.assert_array_equal(found["pixel_values"], NORMALISATION.applied(IMAGES[[12, 3, 3, 0]]))


@pytest.mark.parametrize("view", [1, 2])
def test_a_batch_of_another_view_has_the_view_s_crops(view: int) -> None:
    rows = numbers(5, 19, 0)
    draws = draws_of([pixel_key(IMAGES[row]) for row in rows], view, THREE)
    expected = NORMALISATION.applied(augmented(IMAGES[rows], draws))
    np.testing.assert_array_equal(ALL.collate(view_of(view, 5, 19, 0))["pixel_values"], expected)
    assert not np.array_equal(expected, ALL.collate(rows)["pixel_values"])
    keys = [view_key(pixel_key(IMAGES[row]), view, THREE) for row in rows]
    assert ALL.keys(view_of(view, 5, 19, 0)) == keys


def test_images_stay_as_they_are_when_a_batch_is_made() -> None:
    before = IMAGES.copy()
    ALL.collate(np.arange(60))
    np.testing.assert_array_equal(IMAGES, before)


def test_each_image_costs_as_much_as_any_other_and_none_is_filled_up() -> None:
    assert (len(ALL), ALL.costs.tolist(), ALL.costs.dtype) == (60, [1] * 60, np.int64)
    inputs = {"pixel_values": torch.zeros(2, 3, 6, 5)}
    assert ALL.fitted(inputs, 99) == inputs


def test_a_batch_of_several_views_has_each_row_in_its_own() -> None:
    rows = np.array([3, 23, 43, 25], np.int64)
    found = ALL.images(rows)
    for place in range(len(rows)):
        np.testing.assert_array_equal(found[place], ALL.images(rows[place : place + 1])[0])
    assert len(set(ALL.keys(np.arange(60)))) == 60


def test_rows_that_are_taken_keep_their_images_and_keys_and_share_the_pixels() -> None:
    taken = ALL.take(numbers(9, 2, 35)).take(numbers(2, 0))
    assert len(taken) == 2 and taken.pixels is ALL.pixels
    np.testing.assert_array_equal(taken.images(numbers(0, 1)), ALL.images(numbers(35, 9)))
    assert taken.keys(numbers(1)) == [pixel_key(IMAGES[9])]


def test_rows_of_two_splits_follow_each_other() -> None:
    others = random_pixels(4, 3, 6, 5, seed=1)
    joined = ALL.take(numbers(4, 8)).followed_by(rows_of(others).take(numbers(3, 1, 0)))
    assert len(joined) == 5
    expected = np.concatenate([IMAGES[[4, 8]], others[[3, 1, 0]]])
    np.testing.assert_array_equal(joined.images(np.arange(5)), expected)
    assert joined.keys(np.arange(5)) == [pixel_key(image) for image in expected]


def test_images_of_two_shapes_are_not_joined() -> None:
    with pytest.raises(ValueError, match=r"images: of the shapes \[3, 6, 5\] and \[1, 6, 5\]; resize or convert"):
        ALL.followed_by(rows_of(IMAGES[:, :1]))
