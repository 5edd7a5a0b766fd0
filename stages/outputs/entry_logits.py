"""Logits of rows that have several entries, with a vector of logits for each: in memory, and as an Arrow column."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa


@dataclass(frozen=True)
class EntryLogits:
    """The logits of N rows: ``values`` [E, C] float32 of all their entries, one row after the other, and the number of
    entries of each row, ``counts`` [N], which is at least 1."""

    values: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64]

    @staticmethod
    def of(rows: Sequence[npt.NDArray[np.float32]]) -> "EntryLogits":
        """The logits of rows that are given one by one, [W, C] each; there is at least one."""
        return EntryLogits(np.concatenate(rows), np.array([len(row) for row in rows], np.int64))

    @staticmethod
    def from_arrow(column: pa.ListArray) -> "EntryLogits":
        """The logits in a column without nulls, a list of vectors for each row."""
        vectors = column.flatten()
        flat = vectors.flatten().to_numpy(zero_copy_only=False)
        return EntryLogits(
            flat.reshape(-1, vectors.type.list_size), np.asarray(column.value_lengths()).astype(np.int64)
        )

    def __len__(self) -> int:
        return len(self.counts)

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """[N]: the place in ``values`` of the first entry of each row."""
        return np.cumsum(self.counts) - self.counts

    def arrow(self, kind: pa.DataType) -> pa.ListArray:
        """The column of type ``kind``, a list of vectors for each row."""
        flat = pa.array(np.ascontiguousarray(self.values).reshape(-1), kind.value_type.value_type)
        vectors = pa.FixedSizeListArray.from_arrays(flat, type=kind.value_type)
        offsets = pa.array(np.concatenate([np.zeros(1, np.int32), np.cumsum(self.counts)]).astype(np.int32))
        return pa.ListArray.from_arrays(offsets, vectors, type=kind)

    def take(self, rows: npt.NDArray[np.int64]) -> "EntryLogits":
        """These rows, in this order."""
        counts = self.counts[rows]
        ends = np.cumsum(counts)
        places = np.repeat(self.starts[rows] - (ends - counts), counts) + np.arange(int(counts.sum()))
        return EntryLogits(self.values[places], counts)

    def padded(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """[len(rows), W, C]: these rows, 0 beyond the entries of a row; W is the most entries of one of them."""
        counts, starts = self.counts[rows], self.starts[rows]
        columns = np.arange(int(counts.max(initial=0)), dtype=np.int64)
        inside = columns < counts[:, None]
        found = self.values[np.where(inside, starts[:, None] + columns, 0)]
        found[~inside] = 0
        return found
