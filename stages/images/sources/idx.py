"""Fashion-MNIST and MNIST as they are distributed: idx files, compressed by gzip or not (LeCun et al. 1998;
Xiao et al. 2017)."""

import gzip
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from stages.images.rows import ImageRow, ImageSource

IdxSplit = Literal["train", "test"]

STEMS: Mapping[str, str] = {"train": "train", "test": "t10k"}
"""Split -> the beginning of the names of its files."""

FASHION = (
    "t-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
"""The classes of Fashion-MNIST in the order of their numbers. Its files, which have no names of classes, are called as
those of MNIST."""

BYTES_TYPE = 0x08
"""The type of unsigned bytes in the third byte of an idx file."""
LARGEST = 2**31
"""Bytes of the largest idx file, after decompression."""


def idx_images(folder: Path, split: IdxSplit, names: tuple[str, ...] = ()) -> ImageSource:
    """The grey images of a split in ``<train|t10k>-images-idx3-ubyte`` and their labels in ``-labels-idx1-ubyte``, both
    perhaps with ``.gz``. ``names`` are those of the labels. The files are read when the source is opened; ValueError at
    once where one is missing, and then where one is damaged."""
    images, labels = (_file(folder, split, kind) for kind in ("images-idx3", "labels-idx1"))
    return ImageSource(f"{folder} {split}", lambda: _rows(images, labels), names)


def has_idx(folder: Path) -> bool:
    """Whether a folder holds the images of train in an idx file."""
    return any(path.is_file() for path in _candidates(folder, "train", "images-idx3"))


def _candidates(folder: Path, split: IdxSplit, kind: str) -> tuple[Path, Path]:
    name = f"{STEMS[split]}-{kind}-ubyte"
    return folder / f"{name}.gz", folder / name


def _file(folder: Path, split: IdxSplit, kind: str) -> Path:
    candidates = _candidates(folder, split, kind)
    for path in candidates:
        if path.is_file():
            return path
    raise ValueError(f"{folder}: {candidates[0].name} is missing; download it from where the others came from")


def _rows(images: Path, labels: Path) -> Iterator[ImageRow]:
    pixels, numbers = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(numbers):
        raise ValueError(
            f"{images}: {len(pixels):,} images, and {len(numbers):,} labels in {labels.name}; download both again"
        )
    for number, (image, label) in enumerate(zip(pixels, numbers, strict=True), start=1):
        yield ImageRow(number, f"row {number}", image[None], int(label))


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """The array of bytes in an idx file, which has so many dimensions. ValueError for a file that is damaged, or of
    another type."""
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            data = file.read(LARGEST)
    except (OSError, EOFError, zlib.error) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: this file is cut short or damaged ({reason}); download it again") from error
    head = 4 * (1 + dimensions)
    if len(data) < head or data[:4] != bytes([0, 0, BYTES_TYPE, dimensions]):
        raise ValueError(f"{path}: not an idx file of bytes in {dimensions} dimensions; download it again")
    shape = [int(size) for size in np.frombuffer(data, ">u4", dimensions, 4)]
    if int(np.prod(shape, dtype=object)) != len(data) - head:
        expected = " x ".join(f"{size:,}" for size in shape)
        raise ValueError(f"{path}: {len(data) - head:,} bytes, where {expected} are stated; download it again")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)
