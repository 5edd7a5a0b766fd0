"""The rows of a source of images: read as a stream, decoded, checked, and gathered in a table.

What is wrong with a source as a whole is a ValueError of one line that begins with its origin. What is wrong with
single images is one such line at the end, which counts the bad rows, describes the first of them and says what would be
right.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from stages.images.decode import Channels, Pixels, checked_pixels, decoded
from stages.images.pixel_key import PIXEL_KEY_BYTES, pixel_key

PIXELS = "pixels"
"""The column of the decoded pixels."""
SHAPE = b"stillhouse.pixels"
"""The key of the images' shape in the schema metadata of a table."""
DESCRIBED = 3
"""Bad rows of a split that its error message describes; the others are counted."""
BLOCK_BYTES = 2**24


class ImageRow(NamedTuple):
    """A row of a source. ``number`` counts rows from 1, and ``place`` names the row in messages, such as ``row 3`` or
    the name of its file. ``image`` is encoded, or decoded pixels [C, H, W] where the source holds those; ``label`` is
    the value that the source has, a number or a name. If the row cannot be read, ``problem`` says why."""

    number: int
    place: str
    image: bytes | Pixels
    label: object
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ImageSource:
    """The images of a split that have not been read. ``open`` gives its rows; ``origin`` begins each error message.
    ``names`` are the names of the labels in the order of their numbers, where the source knows them, else ().
    ``of_files``: whether each row is a file, whose name is its ``place``."""

    origin: str
    open: Callable[[], Iterator[ImageRow]]
    names: tuple[str, ...] = ()
    of_files: bool = False


@dataclass(frozen=True, slots=True)
class DecodedRows:
    """The rows of a split in memory. ``table`` has the columns index (the number of a row in the source, from 0),
    row_key and pixels, whose bytes are those of an array of ``shape`` [C, H, W]; ``labels`` are the values of the
    source, one a row."""

    table: pa.Table
    shape: tuple[int, int, int]
    labels: Sequence[object]


@dataclass
class _BadRows:
    """How many rows are bad, and the first of them in words."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, row: ImageRow, problem: str) -> None:
        self.count += 1
        if len(self.first) < DESCRIBED:
            self.first.append(f"{row.place}: {problem}")

    def check(self, origin: str, rows: int) -> None:
        """ValueError if there are any, of ``rows`` rows."""
        if self.count == 1:
            raise ValueError(f"{origin}: {self.first[0]}")
        if self.count:
            more = f"; and {self.count - len(self.first):,} more" if self.count > len(self.first) else ""
            raise ValueError(
                f"{origin}: {self.count:,} of {rows:,} images cannot be used: {'; '.join(self.first)}{more}"
            )


def decoded_rows(source: ImageSource, channels: Channels) -> Iterator[tuple[ImageRow, Pixels]]:
    """The rows of a split with their pixels, decoded to ``channels`` channels, one after the other.

    ValueError, after all rows were read, for images that are empty, broken or of another kind (``decoded``); at once
    for images of several sizes, which names the first two; and for a split without rows.
    """
    bad, first, count = _BadRows(), None, 0
    for row in source.open():
        count += 1
        try:
            pixels = _pixels(row, channels)
        except ValueError as error:
            bad.add(row, str(error))
            continue
        if first is None:
            first = (row.place, pixels.shape)
        elif pixels.shape != first[1]:
            sizes = (f"{shape[1]} x {shape[2]}" for shape in (first[1], pixels.shape))
            raise ValueError(
                f"{source.origin}: images of several sizes: {first[0]} has {next(sizes)} and {row.place} has "
                f"{next(sizes)} (height x width); resize or crop them to one size"
            )
        yield row, pixels
    bad.check(source.origin, count)
    if first is None:
        raise ValueError(f"{source.origin}: no images; a split needs at least 1")


def read_images(source: ImageSource, channels: Channels) -> DecodedRows:
    """All rows of a split, decoded to ``channels`` channels. Raises ValueError as ``decoded_rows`` does."""
    shape: tuple[int, ...] = ()
    numbers: list[int] = []
    keys: list[bytes] = []
    labels: list[object] = []
    blocks: list[pa.Array] = []
    block: list[Pixels] = []
    for row, pixels in decoded_rows(source, channels):
        shape = pixels.shape
        numbers.append(row.number - 1)
        keys.append(pixel_key(pixels))
        labels.append(row.label)
        block.append(pixels)
        if len(block) * pixels.nbytes >= BLOCK_BYTES:
            blocks.append(pixel_column(np.stack(block)))
            block = []
    blocks += [pixel_column(np.stack(block))] if block else []
    table = pa.table(
        {
            "index": pa.array(numbers, pa.int64()),
            "row_key": pa.array(keys, pa.binary(PIXEL_KEY_BYTES)),
            PIXELS: pa.chunked_array(blocks),
        }
    )
    channels_found, height, width = shape
    return DecodedRows(table, (channels_found, height, width), labels)


def _pixels(row: ImageRow, channels: Channels) -> Pixels:
    if row.problem:
        raise ValueError(row.problem)
    return decoded(row.image, channels) if isinstance(row.image, bytes) else checked_pixels(row.image, channels)


def pixel_column(pixels: Pixels) -> pa.Array:
    """The images [N, C, H, W] as an Arrow array of N values of C * H * W bytes."""
    size = int(np.prod(pixels.shape[1:]))
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(size), len(pixels), [None, pa.py_buffer(np.ascontiguousarray(pixels))]
    )


def pixel_array(column: pa.ChunkedArray, shape: tuple[int, int, int]) -> Pixels:
    """The images [N, C, H, W] of a column that ``pixel_column`` made. They are a view of the column's memory where it
    has one chunk."""
    size = int(np.prod(shape))
    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * size, chunk.offset * size).reshape(-1, *shape)
        for chunk in column.chunks
        if len(chunk)
    ]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([np.zeros((0, *shape), np.uint8), *parts])
