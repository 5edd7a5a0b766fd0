"""Encoded images: every mode is decoded as it is meant, and what cannot be used is refused in one line."""

import io
from typing import Any, Literal

import numpy as np
import pytest
from image_files import encoded, random_pixels, saved
from PIL import Image

from stages.images.decode import checked_pixels, decoded

COLOURS = random_pixels(1, 3, 5, 7)[0]
GREY = random_pixels(1, 1, 5, 7)[0]
Channels = Literal[1, 3]


def picture(mode: str) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(COLOURS.transpose(1, 2, 0))).convert(mode)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_colours_and_greys_are_decoded_as_they_are(kind: str) -> None:
    np.testing.assert_array_equal(decoded(encoded(COLOURS, kind), 3), COLOURS)
    np.testing.assert_array_equal(decoded(encoded(GREY, kind), 1), GREY)


def test_grey_images_get_three_equal_channels_where_three_are_wanted() -> None:
    found = decoded(encoded(GREY), 3)
    assert found.shape == (3, 5, 7) and found.flags.c_contiguous
    np.testing.assert_array_equal(found, np.repeat(GREY, 3, 0))


def test_a_grey_image_that_was_saved_with_three_channels_is_grey() -> None:
    np.testing.assert_array_equal(decoded(encoded(np.repeat(GREY, 3, 0)), 1), GREY)


def test_a_palette_is_looked_up_and_an_opaque_alpha_channel_is_dropped() -> None:
    palette = picture("P")
    np.testing.assert_array_equal(decoded(saved(palette), 3), np.asarray(palette.convert("RGB")).transpose(2, 0, 1))
    np.testing.assert_array_equal(decoded(saved(picture("RGBA")), 3), COLOURS)
    grey = Image.fromarray(GREY[0]).convert("LA")
    np.testing.assert_array_equal(decoded(saved(grey), 1), GREY)


def test_black_and_white_images_have_the_values_0_and_255() -> None:
    assert set(np.unique(decoded(saved(picture("1")), 1)).tolist()) == {0, 255}


def test_an_image_is_turned_as_its_exif_orientation_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned to the left: the picture is to be turned clockwise
    turned = decoded(encoded(COLOURS, "PNG", exif=exif), 3)
    np.testing.assert_array_equal(turned, np.rot90(COLOURS, k=-1, axes=(1, 2)))


def see_through() -> bytes:
    image = picture("RGBA")
    image.putpixel((0, 0), (1, 2, 3, 128))
    return saved(image)


def frames() -> bytes:
    buffer = io.BytesIO()
    picture("P").save(buffer, "GIF", save_all=True, append_images=[picture("P").rotate(180)])
    return buffer.getvalue()


def deep() -> bytes:
    return saved(Image.fromarray(np.arange(35, dtype=np.uint16).reshape(5, 7) * 1000))


@pytest.mark.parametrize(
    ("image", "channels", "message"),
    [
        (b"", 3, "the image is empty, 0 bytes"),
        (b"not an image at all", 3, "cannot be decoded .no image format that is read.; give a whole PNG, JPEG"),
        (encoded(random_pixels(1, 3, 40, 40)[0], "JPEG")[:700], 3, "cannot be decoded .*truncated"),
        (encoded(COLOURS)[:60], 3, "cannot be decoded"),
        (encoded(COLOURS), 1, "has colours, and channels is 1; set channels: 3"),
        (see_through(), 3, "has transparent pixels; flatten it"),
        (frames(), 3, "has 2 frames; keep one of them"),
        (deep(), 1, "more than 8 bits a channel .mode I;16.; save it with 8"),
        (saved(picture("RGB"), "EPS"), 3, "no image format that is read"),
    ],
)
def test_an_image_that_cannot_be_used_is_refused_in_one_line(image: bytes, channels: Channels, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        decoded(image, channels)
    assert "\n" not in str(caught.value)


PNG_END = 16
"""Bytes of a PNG after its pixels: their checksum, and the last chunk."""


@pytest.mark.parametrize("cut", range(8, len(encoded(COLOURS)) - PNG_END, 11))
def test_no_part_of_an_image_passes_for_the_whole(cut: int) -> None:
    with pytest.raises(ValueError, match="cannot be decoded"):
        decoded(encoded(COLOURS)[:cut], 3)


def test_decoded_pixels_of_a_file_are_held_to_the_same_channels() -> None:
    np.testing.assert_array_equal(checked_pixels(GREY, 3), np.repeat(GREY, 3, 0))
    assert checked_pixels(COLOURS, 3) is COLOURS
    np.testing.assert_array_equal(checked_pixels(np.repeat(GREY, 3, 0), 1), GREY)
    with pytest.raises(ValueError, match="has colours"):
        checked_pixels(COLOURS, 1)


def test_other_errors_of_a_decoder_name_the_image_too(monkeypatch: Any) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match=r"cannot be decoded .*decompression bomb"):
        decoded(encoded(COLOURS), 3)
