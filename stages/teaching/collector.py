"""The teacher's outputs for the rows of a shard, collected from batches in any order."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.corpus.batches import Rows
from stages.models.predict import finite_or_raise
from stages.outputs.layout import ITEM_TYPES, Layout
from stages.outputs.parquet import SCALED

Array = npt.NDArray[Any]
Outputs = tuple[Array, Mapping[str, Sequence[Array] | Array]]
"""Of a batch: the logits [B, outputs], or the rows' lengths [B]; and for each column of states one array a row."""


class OutputCollector:
    """Outputs for ``rows`` rows of ``layout``. States are kept in the number type in which they are stored, or as
    float32 if they will be quantised."""

    def __init__(self, layout: Layout, rows: int) -> None:
        self.layout = layout
        self.dtype = np.float32 if layout.precision == SCALED else ITEM_TYPES[layout.precision]
        pooled = layout.part == "pooled"
        self.heads: Array = np.empty((rows, layout.outputs), np.float32) if pooled else np.empty(rows, np.int32)
        self.states: dict[str, list[Array]] = {state.column: [np.empty(0)] * rows for state in layout.states}

    def add(self, places: Rows, outputs: Outputs) -> None:
        """Keep the outputs for the rows at ``places`` of the shard."""
        heads, states = outputs
        self.heads[places] = heads
        for column, values in states.items():
            for place, row in zip(places, values, strict=True):
                with np.errstate(over="ignore"):  # ``finished`` refuses what overflows
                    self.states[column][place] = row.astype(self.dtype)

    def finished(self, keys: Sequence[bytes]) -> tuple[Array, dict[str, Array]]:
        """Logits [rows, outputs] or lengths [rows], and each column of states as ``write_shard`` takes it: [rows,
        width], or all positions one after the other. Raises ValueError, naming a row, for values that are not
        finite."""
        if self.layout.part == "pooled":
            finite_or_raise(self.heads, keys, "the teacher's logits")
        return self.heads, {column: self._column(column, rows, keys) for column, rows in self.states.items()}

    def _column(self, column: str, rows: Sequence[Array], keys: Sequence[bytes]) -> Array:
        what = f"the teacher's {column} in {self.layout.precision} (store.precision)"
        if self.layout.part == "pooled":
            whole = np.stack(rows)
            finite_or_raise(whole, keys, what)
            return whole
        sums = np.array([row.sum(dtype=np.float64) for row in rows])  # not finite where any value is not
        finite_or_raise(sums, keys, what)
        return np.concatenate(rows)
