"""The key of an image: a hash of its decoded pixels, independent of its file, its format and its label."""

from hashlib import blake2b

import numpy as np

from stages.images.decode import Pixels

PIXEL_KEY_BYTES = 16


def pixel_key(pixels: Pixels) -> bytes:
    """blake2b with 16 bytes over the shape of ``pixels`` [C, H, W], each size as a little-endian u64, and its bytes in
    that order."""
    shape = b"".join(size.to_bytes(8, "little") for size in pixels.shape)
    return blake2b(shape + np.ascontiguousarray(pixels).tobytes(), digest_size=PIXEL_KEY_BYTES).digest()
