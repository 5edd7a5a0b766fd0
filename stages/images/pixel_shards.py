"""Writes the decoded images of splits in parts.

    <split>/part-00000.npy       pixels, uint8 [rows, C, H, W], which are mapped into memory when they are read
    <split>/part-00000.parquet   index, row_key, label of the same rows; written after the pixels
    pixels.json                  the shape of an image, mean and standard deviation of train, the splits; written last

``stages/images/pixel_reader.py`` reads the files.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.resources import On
from stages.atomic import replacing
from stages.images.pixel_reader import PIXEL_META, pixel_path, row_path
from stages.images.rows import PIXELS, pixel_array
from stages.images.statistics import Normalisation, normalisation_of

PART_BYTES = 2**26
"""Bytes of the pixels of a part: 21,845 images of CIFAR."""

Shape = tuple[int, int, int]


def write_images(
    splits: Mapping[str, pa.Table],
    shape: Shape,
    out: Path,
    on: On,
    train: str = "train",
    normalisation: Normalisation | None = None,
) -> Mapping[str, int]:
    """Write the parts that ``out`` lacks, and ``pixels.json``. Returns the number of rows of each split.

    Each split is a table of index, row_key, label (null where it is not public) and pixels, whose images have the
    ``shape`` [C, H, W]. ``train`` is the split whose statistics are kept, unless a
    ``normalisation`` is given.
    """
    parts = [(name, part) for name, rows in splits.items() for part in range(part_count(rows.num_rows, shape))]
    missing = [
        (name, part)
        for name, part in parts
        if not _is_finished(out, name, part, _part(splits[name], part, shape), shape)
    ]
    if len(missing) < len(parts):
        on.log(f"{len(parts) - len(missing)} of {len(parts)} parts were there already")
    for name, part in missing:
        _write_part(out, name, part, _part(splits[name], part, shape), shape)
    statistics = normalisation or normalisation_of(pixel_array(splits[train][PIXELS], shape))
    _write_meta(splits, shape, statistics, out)
    return {name: rows.num_rows for name, rows in splits.items()}


def part_rows(shape: Shape) -> int:
    """Rows of a part, of which the last one of a split may have fewer."""
    return max(1, PART_BYTES // int(np.prod(shape)))


def part_count(rows: int, shape: Shape) -> int:
    """The number of parts of a split of ``rows`` rows."""
    return -(-rows // part_rows(shape))


def _part(rows: pa.Table, part: int, shape: Shape) -> pa.Table:
    return rows.slice(part * part_rows(shape), part_rows(shape))


def _write_part(out: Path, split: str, part: int, rows: pa.Table, shape: Shape) -> None:
    pixels = pixel_path(out, split, part)
    pixels.parent.mkdir(parents=True, exist_ok=True)
    with replacing(pixels) as draft, draft.open("wb") as file:
        np.save(file, pixel_array(rows[PIXELS], shape), allow_pickle=False)
    with replacing(row_path(out, split, part)) as draft:
        pq.write_table(rows.drop_columns(PIXELS), draft, compression="zstd")


def _is_finished(out: Path, split: str, part: int, rows: pa.Table, shape: Shape) -> bool:
    """Whether an earlier attempt wrote these rows to a part."""
    try:
        written = pq.read_table(row_path(out, split, part))
        pixels = np.load(pixel_path(out, split, part), mmap_mode="r")
    except (pa.ArrowException, OSError, ValueError, EOFError):
        return False
    return bool(pixels.shape == (rows.num_rows, *shape) and written.equals(rows.drop_columns(PIXELS)))


def _write_meta(splits: Mapping[str, pa.Table], shape: Shape, statistics: Normalisation, out: Path) -> None:
    content = {
        "shape": list(shape),
        "mean": list(statistics.mean),
        "std": list(statistics.std),
        "splits": {
            name: {"rows": rows.num_rows, "parts": part_count(rows.num_rows, shape)} for name, rows in splits.items()
        },
    }
    with replacing(out / PIXEL_META) as draft:
        draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
