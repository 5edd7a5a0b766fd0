"""The key of an image is that of its pixels and their shape."""

from hashlib import blake2b

import numpy as np
from image_files import encoded, random_pixels, saved
from PIL import Image

from stages.images.decode import decoded
from stages.images.pixel_key import pixel_key

PIXELS = random_pixels(1, 3, 4, 6)[0]


def test_a_key_is_the_hash_of_the_shape_and_of_the_pixels_in_order() -> None:
    data = b"".join(size.to_bytes(8, "little") for size in (3, 4, 6)) + bytes(PIXELS.flatten().tolist())
    assert pixel_key(PIXELS) == blake2b(data, digest_size=16).digest()


def test_a_key_does_not_depend_on_the_format_of_the_file_or_on_the_order_in_memory() -> None:
    assert pixel_key(decoded(encoded(PIXELS, "PNG"), 3)) == pixel_key(decoded(encoded(PIXELS, "BMP"), 3))
    again = saved(Image.fromarray(np.ascontiguousarray(PIXELS.transpose(1, 2, 0))), "PNG", compress_level=0)
    assert pixel_key(decoded(again, 3)) == pixel_key(PIXELS)
    assert pixel_key(np.asfortranarray(PIXELS)) == pixel_key(PIXELS)


def test_images_with_the_same_bytes_and_other_shapes_have_other_keys() -> None:
    assert len({pixel_key(PIXELS.reshape(shape)) for shape in ((3, 4, 6), (3, 6, 4), (1, 12, 6), (1, 6, 12))}) == 4
