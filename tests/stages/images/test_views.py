"""Augmented views: the same for the same row, view and seed, drawn evenly, and cropped and mirrored as by hand."""

from hashlib import blake2b

import numpy as np
import pytest
from image_files import random_pixels
from pydantic import ValidationError

from stages.images.views import Draws, augmented, draws_of, view_key
from stages.specs.axes.augmentation import Augmentation

KEYS = [blake2b(bytes([row, more]), digest_size=16).digest() for row in range(256) for more in range(16)]
FOUR = Augmentation(views=4)


def by_hand(image: np.ndarray, down: int, right: int, flip: bool, padding: int) -> np.ndarray:
    """The view of one image by its definition: pad it, crop it, mirror it."""
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    top, left = padding + down, padding + right
    crop = padded[:, top : top + image.shape[1], left : left + image.shape[2]]
    return crop[:, :, ::-1] if flip else crop


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 5, 9), (2, 3, 3)])
@pytest.mark.parametrize("padding", [0, 4])
def test_views_are_crops_of_the_padded_image_and_their_mirror_images(shape: tuple[int, ...], padding: int) -> None:
    images = random_pixels(200, *shape)
    draws = draws_of(KEYS[:200], 1, Augmentation(views=2, padding=padding))
    assert set(draws.flipped.tolist()) == {False, True}
    found = augmented(images, draws)
    for row, image in enumerate(images):
        down, right, flip = int(draws.down[row]), int(draws.right[row]), bool(draws.flipped[row])
        np.testing.assert_array_equal(found[row], by_hand(image, down, right, flip, padding))


def test_a_view_that_is_shifted_by_more_than_the_image_is_black() -> None:
    images = random_pixels(2, 1, 3, 3)
    far = Draws(np.array([3, -5]), np.array([0, 9]), np.array([True, False]))
    assert not augmented(images, far).any()


def test_a_draw_depends_on_the_row_the_view_the_seed_and_the_settings_and_not_on_the_batch() -> None:
    whole = draws_of(KEYS, 2, FOUR)
    part = draws_of(KEYS[700:703], 2, FOUR)
    for name in ("down", "right", "flipped"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[700:703])
    others = [
        draws_of(KEYS, 1, FOUR),
        draws_of(KEYS[::-1], 2, FOUR),
        draws_of(KEYS, 2, FOUR.model_copy(update={"seed": 1})),
    ]
    for other in others:
        # Of independent draws of 9 shifts, one in 9 agrees.
        assert np.mean(other.down == whole.down) == pytest.approx(1 / 9, abs=0.02)


def test_more_views_do_not_change_the_first_ones() -> None:
    sixteen = FOUR.model_copy(update={"views": 16})
    np.testing.assert_array_equal(draws_of(KEYS, 3, sixteen).down, draws_of(KEYS, 3, FOUR).down)
    assert view_key(KEYS[0], 3, sixteen) == view_key(KEYS[0], 3, FOUR)


def test_shifts_and_flips_are_uniform_and_independent() -> None:
    draws = draws_of(KEYS, 1, FOUR)
    counts = np.zeros((9, 9, 2), int)
    np.add.at(counts, (draws.down + 4, draws.right + 4, draws.flipped.astype(int)), 1)
    expected = len(KEYS) / counts.size
    # Pearson's statistic of 161 degrees of freedom: 99.99 % of uniform draws lie below 234.
    assert ((counts - expected) ** 2 / expected).sum() < 234


def test_without_flips_the_crops_stay_random() -> None:
    draws = draws_of(KEYS, 1, Augmentation(views=2, flip=False))
    assert not draws.flipped.any()
    assert set(draws.down.tolist()) == set(range(-4, 5))


def test_the_key_of_view_0_is_the_row_key_and_others_are_distinct() -> None:
    assert view_key(KEYS[0], 0, FOUR) == KEYS[0]
    settings = [
        FOUR,
        Augmentation(views=4, padding=2),
        Augmentation(views=4, flip=False),
        Augmentation(views=4, seed=9),
    ]
    keys = [view_key(key, view, one) for key in KEYS[:50] for view in (1, 2, 3) for one in settings]
    assert len({*keys, *KEYS[:50]}) == len(keys) + 50
    assert {len(key) for key in keys} == {16}


def test_draws_and_keys_never_change() -> None:
    draws = draws_of(KEYS[:4], 1, Augmentation(views=2, seed=-5))
    assert (draws.down.tolist(), draws.right.tolist(), draws.flipped.tolist()) == (
        [1, -3, -2, 2],
        [2, -2, 3, -4],
        [True, False, True, True],
    )
    assert view_key(KEYS[0], 1, Augmentation(views=2, seed=-5)).hex() == "d924b81b81df977314d36580e8bc432a"


def test_epochs_take_the_views_in_turn() -> None:
    assert [FOUR.view_in(epoch) for epoch in range(6)] == [0, 1, 2, 3, 0, 1]
    assert [Augmentation().view_in(epoch) for epoch in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("wrong", [{"views": 0}, {"padding": -1}, {"seed": 2**63}, {"crop": 4}])
def test_settings_that_make_no_views_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Augmentation.model_validate(wrong)
