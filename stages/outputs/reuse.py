"""Rows of a finished shard as they are stored: codes keep their scales, so nothing is rounded twice."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.outputs.entry_logits import EntryLogits
from stages.outputs.layout import Layout, shard_name
from stages.outputs.parquet import (
    SCALED,
    Array,
    Damaged,
    read_entry_logits,
    read_logits,
    read_row_keys,
    read_scales,
    read_tokens,
    state_batches,
)
from stages.outputs.quantization import Scales

StoredRows = tuple[Array | EntryLogits, Mapping[str, Array], Mapping[str, Scales] | None]
"""Logits or lengths; states by column; scales by column in the tier int8, otherwise None. ``write_shard`` takes
them."""


def read_rows(directory: Path, number: int, source: Layout, wanted: Layout, keys: Sequence[bytes]) -> StoredRows:
    """The rows with these keys, in their order, of shard ``number`` of a store of layout ``source``: the columns of
    ``wanted``. Raises Damaged for a shard that cannot be read or lacks one of the keys."""
    path = directory / shard_name(number)
    rows = _places(path, keys)
    columns = [state.column for state in wanted.states]
    scales = read_scales(directory, number, columns) if wanted.precision == SCALED else None
    if wanted.part == "pooled":
        by_entry = source.entries and wanted.has_logits
        logits = read_entry_logits(path, source).take(rows) if by_entry else _row_logits(path, source)[rows]
        states = {name: np.concatenate(list(state_batches(directory, number, source, name)))[rows] for name in columns}
        return logits, states, scales
    ragged = {name: read_tokens(path, source, name) for name in columns}
    lengths = next(iter(ragged.values()))[1]
    sizes = lengths.astype(np.int64) if wanted.part == "tokens" else source.heads * lengths.astype(np.int64) ** 2
    return lengths[rows], {name: _ragged_rows(values, sizes, rows) for name, (values, _) in ragged.items()}, scales


def _row_logits(path: Path, source: Layout) -> Array:
    """[rows, outputs] of a shard; [rows, 0] where no logits are wanted of one that has them for each entry."""
    if source.entries:
        return np.empty((len(read_row_keys(path)), 0), np.float32)
    return read_logits(path, source)


def _places(path: Path, keys: Sequence[bytes]) -> npt.NDArray[np.int64]:
    place_of = {key: row for row, key in enumerate(read_row_keys(path))}
    try:
        return np.array([place_of[key] for key in keys], np.int64)
    except KeyError as error:
        raise Damaged(f"{path}: this shard has lost a row; stillhouse verify {path.parent} --repair") from error


def _ragged_rows(values: Array, sizes: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> Array:
    """These rows, one after the other, of values that lie end to end, ``sizes[row]`` of them for each row."""
    ends = np.cumsum(sizes)
    return np.concatenate([values[ends[row] - sizes[row] : ends[row]] for row in rows])
