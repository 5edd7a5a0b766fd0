"""The images of a split: read whole, and refused in one line that names the row and the remedy."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from image_files import encoded, random_pixels

from stages.images.pixel_key import pixel_key
from stages.images.rows import ImageRow, ImageSource, pixel_array, pixel_column, read_images

IMAGES = random_pixels(6, 3, 5, 4)


def source(images: Sequence[object], labels: Sequence[object] | None = None) -> ImageSource:
    def rows() -> Iterator[ImageRow]:
        for number, image in enumerate(images, start=1):
            label = number if labels is None else labels[number - 1]
            problem = image if isinstance(image, str) else ""
            yield ImageRow(number, f"row {number}", b"" if problem else image, label, problem)  # type: ignore[arg-type]

    return ImageSource("pets train", rows)


def test_rows_keep_their_order_numbers_labels_and_pixels() -> None:
    found = read_images(source([encoded(image) for image in IMAGES]), 3)
    assert found.shape == (3, 5, 4)
    assert found.table.column_names == ["index", "row_key", "pixels"]
    assert found.table["index"].to_pylist() == list(range(6))
    assert found.labels == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(pixel_array(found.table["pixels"], found.shape), IMAGES)
    assert found.table["row_key"].to_pylist() == [pixel_key(image) for image in IMAGES]


def test_pixels_that_a_source_holds_decoded_are_taken_as_they_are() -> None:
    found = read_images(source([image[:1] for image in IMAGES]), 3)
    np.testing.assert_array_equal(pixel_array(found.table["pixels"], found.shape), np.repeat(IMAGES[:, :1], 3, axis=1))


def test_a_column_of_pixels_can_be_sliced_and_chosen_from_and_is_read_without_a_copy() -> None:
    found = read_images(source([encoded(image) for image in IMAGES]), 3)
    chosen = found.table.take([4, 0, 5]).slice(1)
    np.testing.assert_array_equal(pixel_array(chosen["pixels"], found.shape), IMAGES[[0, 5]])
    column = pixel_column(IMAGES)
    import pyarrow as pa

    assert np.shares_memory(pixel_array(pa.chunked_array([column]), (3, 5, 4)), IMAGES)
    assert pixel_array(pa.chunked_array([], pa.binary(60)), (3, 5, 4)).shape == (0, 3, 5, 4)


def test_images_of_many_blocks_are_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.images.rows.BLOCK_BYTES", 2 * IMAGES[0].nbytes)
    found = read_images(source([encoded(image) for image in IMAGES[:5]]), 3)
    assert found.table["pixels"].num_chunks == 3
    np.testing.assert_array_equal(pixel_array(found.table["pixels"], found.shape), IMAGES[:5])


def test_images_of_several_sizes_are_refused_with_the_first_two() -> None:
    other = encoded(random_pixels(1, 3, 4, 5)[0])
    with pytest.raises(ValueError) as caught:
        read_images(source([b"", encoded(IMAGES[0]), encoded(IMAGES[1]), other]), 3)
    assert str(caught.value) == (
        "pets train: images of several sizes: row 2 has 5 x 4 and row 4 has 4 x 5 (height x width); "
        "resize or crop them to one size"
    )


def test_one_bad_image_is_described_alone() -> None:
    with pytest.raises(ValueError) as caught:
        read_images(source([encoded(IMAGES[0]), b""]), 3)
    assert str(caught.value) == (
        "pets train: row 2: the image is empty, 0 bytes; give a whole PNG or JPEG, or leave the row out"
    )


def test_many_bad_images_are_counted_and_the_first_three_described() -> None:
    images = [encoded(IMAGES[0]), b"", "null; every row needs an image", b"text", b"", b""]
    with pytest.raises(ValueError) as caught:
        read_images(source(images), 3)
    message = str(caught.value)
    assert message.startswith("pets train: 5 of 6 images cannot be used: row 2: the image is empty")
    assert "row 3: null; every row needs an image; row 4: the image cannot be decoded" in message
    assert message.endswith("; and 2 more") and "\n" not in message


def test_a_split_without_images_is_refused() -> None:
    with pytest.raises(ValueError, match="pets train: no images; a split needs at least 1"):
        read_images(source([]), 3)
