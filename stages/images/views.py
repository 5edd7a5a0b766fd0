"""Augmented views of images: the same for the same row, view and settings, in whatever batch or process. numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from stages.images.decode import Pixels
from stages.images.pixel_key import PIXEL_KEY_BYTES
from stages.specs.axes.augmentation import Augmentation

DRAW = b"draw of a view"
KEY = b"key of a view"
"""What the hashes of a row and a view are for; blake2b takes up to 16 bytes."""

DRAW_BYTES = 12
"""Three numbers of 32 bits: for the rows, the columns and the flip."""


@dataclass(frozen=True, slots=True)
class Draws:
    """How a view of each of N images differs from it: by how many rows and columns the crop is shifted, from
    -``padding`` to ``padding``, and whether it is mirrored."""

    down: npt.NDArray[np.int64]  # (N,)
    right: npt.NDArray[np.int64]  # (N,)
    flipped: npt.NDArray[np.bool_]  # (N,)


def view_key(row_key: bytes, view: int, augmentation: Augmentation) -> bytes:
    """The key of a view of a row, 16 bytes: of view 0 the row key itself, of another blake2b of the row key, the
    number of the view and the settings, as ``_settings`` gives them."""
    if view == 0:
        return row_key
    return blake2b(row_key + _settings(view, augmentation), digest_size=PIXEL_KEY_BYTES, person=KEY).digest()


def _settings(view: int, augmentation: Augmentation) -> bytes:
    """The number of the view, the padding, 1 for flips or 0, and the seed; each as 8 little-endian bytes."""
    numbers = (view, augmentation.padding, int(augmentation.flip), augmentation.seed)
    return b"".join(number.to_bytes(8, "little", signed=True) for number in numbers)


def draws_of(row_keys: Sequence[bytes], view: int, augmentation: Augmentation) -> Draws:
    """The draws of a view, at least 1, of the images with these row keys. Shifts and flips are independent and
    uniform."""
    settings = _settings(view, augmentation)
    hashes = [blake2b(key + settings, digest_size=DRAW_BYTES, person=DRAW).digest() for key in row_keys]
    numbers = np.frombuffer(b"".join(hashes), "<u4").reshape(-1, 3).astype(np.int64)
    places = 2 * augmentation.padding + 1
    flipped = (numbers[:, 2] % 2 == 1) & augmentation.flip
    return Draws(numbers[:, 0] % places - augmentation.padding, numbers[:, 1] % places - augmentation.padding, flipped)


def augmented(pixels: Pixels, draws: Draws) -> Pixels:
    """The views [B, C, H, W] of images [B, C, H, W]: position (y, x) of the crop is (y + down, x + right) of the image,
    black outside of it; then the crop is mirrored where it is flipped.

    Each image is one copy of the part that the crop has in common with it, which is faster than an index for all
    (measured with images of 32 x 32), and its own padded copy is never made.
    """
    found = np.zeros_like(pixels)
    mirrored = found[..., ::-1]
    height, width = pixels.shape[2:]
    plan = zip(draws.down.tolist(), draws.right.tolist(), draws.flipped.tolist(), strict=True)
    for row, (down, right, flip) in enumerate(plan):
        top, bottom = max(0, -down), min(height, height - down)
        left, end = max(0, -right), min(width, width - right)
        if top < bottom and left < end:
            target = mirrored if flip else found
            target[row, :, top:bottom, left:end] = pixels[
                row, :, top + down : bottom + down, left + right : end + right
            ]
    return found
