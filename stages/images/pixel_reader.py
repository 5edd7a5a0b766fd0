"""Reads the decoded images that ``stages/images/pixel_shards.py`` writes. Pixels stay on the disk, mapped into
memory."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from stages.images.decode import Pixels
from stages.images.pixel_key import PIXEL_KEY_BYTES
from stages.images.statistics import Normalisation

PIXEL_META = "pixels.json"
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PixelMeta:
    """The content of ``pixels.json``: the shape [C, H, W] of every image, the statistics of train, and for each split
    the number of its rows and of its parts."""

    shape: tuple[int, int, int]
    normalisation: Normalisation
    rows: Mapping[str, int]
    parts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class MappedPixels:
    """The images of one or more files, one after another, as arrays [n, C, H, W] that are mapped from the disk."""

    files: tuple[Pixels, ...]

    def __len__(self) -> int:
        return sum(map(len, self.files))

    @property
    def shape(self) -> tuple[int, ...]:
        """[C, H, W] of every image."""
        return self.files[0].shape[1:]

    def gather(self, rows: Numbers) -> Pixels:
        """The images [B, C, H, W] with these numbers, in this order, in memory."""
        if len(self.files) == 1:
            return np.asarray(self.files[0][rows])
        ends = np.cumsum([len(file) for file in self.files])
        places = np.searchsorted(ends, rows, side="right")
        found = np.empty((len(rows), *self.shape), np.uint8)
        for number in np.unique(places):
            here = places == number
            found[here] = self.files[number][rows[here] - (ends[number] - len(self.files[number]))]
        return found

    def followed_by(self, other: "MappedPixels") -> "MappedPixels":
        """These images, then the other's, of the same shape."""
        return MappedPixels((*self.files, *other.files))


@dataclass(frozen=True, slots=True)
class StoredImages:
    """The N rows of one split. ``labelled`` is False where a label is not public, and ``labels`` is 0 there."""

    pixels: MappedPixels
    row_keys: npt.NDArray[np.uint8]  # (N, 16)
    index: Numbers  # (N,)
    labels: Numbers | npt.NDArray[np.float32]  # (N,)
    labelled: npt.NDArray[np.bool_]  # (N,)

    def __len__(self) -> int:
        return len(self.index)


def pixel_path(directory: Path, split: str, part: int) -> Path:
    """The file with the pixels of a part: ``.npy``, of uint8, [rows, C, H, W]."""
    return directory / split / f"part-{part:05d}.npy"


def row_path(directory: Path, split: str, part: int) -> Path:
    """The Parquet file with index, row_key and label of the rows of a part."""
    return directory / split / f"part-{part:05d}.parquet"


def read_pixel_meta(directory: Path) -> PixelMeta:
    """The meta data in ``directory``. ValueError where there are no finished images."""
    path = directory / PIXEL_META
    if not path.is_file():
        raise ValueError(f"images: {path} is not there; {directory} holds no finished images")
    stated = json.loads(path.read_text("utf-8"))
    channels, height, width = stated["shape"]
    normalisation = Normalisation(tuple(stated["mean"]), tuple(stated["std"]))
    rows, parts = ({name: int(split[of]) for name, split in stated["splits"].items()} for of in ("rows", "parts"))
    return PixelMeta((channels, height, width), normalisation, MappingProxyType(rows), MappingProxyType(parts))


def read_stored_images(directory: Path, split: str) -> StoredImages:
    """One split, whose pixels are mapped and whose other columns are in memory. ValueError for a split that is not
    there, and where a part is broken or lacks rows."""
    meta = read_pixel_meta(directory)
    if split not in meta.rows:
        raise ValueError(f"split: {split} is not in {directory}; it has {', '.join(meta.rows)}")
    numbers = range(meta.parts[split])
    tables = [_rows(row_path(directory, split, part)) for part in numbers]
    files = tuple(
        _mapped(pixel_path(directory, split, part), meta.shape, table.num_rows)
        for part, table in zip(numbers, tables, strict=True)
    )
    table = pa.concat_tables(tables).combine_chunks()
    if table.num_rows != meta.rows[split]:
        raise ValueError(
            f"{directory / split}: {table.num_rows} rows; {PIXEL_META} says {meta.rows[split]}; build it again"
        )
    keys = b"".join(table["row_key"].to_pylist())
    label = table["label"]
    return StoredImages(
        MappedPixels(files),
        np.frombuffer(keys, np.uint8).reshape(-1, PIXEL_KEY_BYTES),
        table["index"].to_numpy(),
        label.fill_null(0).to_numpy(),
        label.is_valid().to_numpy(),
    )


def _rows(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: this part cannot be read ({reason}); build the images again") from error


def _mapped(path: Path, shape: tuple[int, int, int], rows: int) -> Pixels:
    try:
        found: Pixels = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: this part cannot be read ({reason}); build the images again") from error
    if found.dtype != np.uint8 or found.shape != (rows, *shape):
        raise ValueError(f"{path}: pixels of shape {list(found.shape)}, not {[rows, *shape]}; build the images again")
    return found
