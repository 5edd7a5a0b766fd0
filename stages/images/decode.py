"""One encoded image -> its pixels. Pillow reads the formats; what is wrong with an image is a ValueError whose message
says what and what would be right, without the place, which the caller knows."""

import io
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

Pixels = npt.NDArray[np.uint8]
"""Decoded pixels, [C, H, W]: 1 channel of a grey image, or red, green and blue."""

Channels = Literal[1, 3]
"""How many channels the images of a task have: 1 keeps grey images as they are and refuses colours, 3 turns grey ones
into red, green and blue of the same value."""

GREY_MODES = ("1", "L", "LA")
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Modes of Pillow with more than 8 bits a channel, whose values would be cut off."""

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP")
"""The formats that are read. Pillow's others call programs, or are read by code that few have looked at."""


def decoded(image: bytes, channels: Channels) -> Pixels:
    """The pixels [channels, H, W] of an encoded image, turned as its EXIF orientation says.

    Raises ValueError for bytes that are empty or no whole image, for one of several frames, of more than 8 bits a
    channel or with transparent pixels, and for a coloured one if ``channels`` is 1.
    """
    if not image:
        raise ValueError("the image is empty, 0 bytes; give a whole PNG or JPEG, or leave the row out")
    try:
        with Image.open(io.BytesIO(image), formats=FORMATS) as opened:
            # A JPEG of some telephones has a small preview behind it, and is called MPO then.
            frames = getattr(opened, "n_frames", 1)
            if frames > 1 and opened.format != "MPO":
                raise _Unusable(f"the image has {frames} frames; keep one of them")
            opened.load()
            values = _values(ImageOps.exif_transpose(opened), channels)
    except _Unusable as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # decoders raise what the damage happens to cause: OSError, SyntaxError, struct.error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        reason = "no image format that is read" if isinstance(error, UnidentifiedImageError) else reason
        raise ValueError(
            f"the image cannot be decoded ({reason}); give a whole {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        ) from error
    return values


class _Unusable(Exception):
    """An image that Pillow reads and that cannot be used as it is."""


def _values(image: Any, channels: Channels) -> Pixels:
    if image.mode in DEEP_MODES:
        raise _Unusable(f"the image has more than 8 bits a channel (mode {image.mode}); save it with 8")
    if image.has_transparency_data:
        image = image.convert("RGBA" if image.mode not in GREY_MODES else "LA")
        if image.getextrema()[-1] != (255, 255):
            raise _Unusable("the image has transparent pixels; flatten it onto a background")
    grey = image.mode in GREY_MODES
    values = np.asarray(image.convert("L" if grey else "RGB"), np.uint8)
    if grey:
        return np.repeat(values[None], channels, 0)
    if channels == 1:
        if (values != values[..., :1]).any():
            raise _Unusable("the image has colours, and channels is 1; set channels: 3, or save it as grey")
        values = values[..., :1]
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def checked_pixels(pixels: Pixels, channels: Channels) -> Pixels:
    """Pixels that a file holds decoded, with ``channels`` channels. Raises ValueError as ``decoded`` does."""
    if len(pixels) == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, 0)
    if (pixels != pixels[:1]).any():
        raise ValueError("the image has colours, and channels is 1; set channels: 3")
    return pixels[:1]
