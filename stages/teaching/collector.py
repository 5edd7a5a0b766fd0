"""What a teacher says about the rows of a shard, gathered from batches in any order."""

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
"""Of a batch: the logits [B, C], or the rows' lengths [B]; and each column of states, an array a row."""


class OutputCollector:
    """``rows`` rows of ``layout``. States are kept in the type that is stored, or float32 if they will be quantised."""

    def __init__(self, layout: Layout, rows: int) -> None:
        self.layout = layout
        self.kind = np.float32 if layout.precision == SCALED else ITEM_TYPES[layout.precision]
        pooled = layout.part == "pooled"
        self.heads: Array = np.empty((rows, layout.outputs), np.float32) if pooled else np.empty(rows, np.int32)
        self.states: dict[str, list[Array]] = {state.column: [np.empty(0)] * rows for state in layout.states}

    def put(self, places: Rows, said: Outputs) -> None:
        """Take in what was said about the rows at ``places``."""
        heads, states = said
        self.heads[places] = heads
        for column, values in states.items():
            for place, row in zip(places, values, strict=True):
                with np.errstate(over="ignore"):  # what overflows is refused in the end
                    self.states[column][place] = row.astype(self.kind)

    def finished(self, keys: Sequence[bytes]) -> tuple[Array, dict[str, Array]]:
        """Logits or lengths, and each column end to end. Raises ValueError, naming a row, for what is not finite."""
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
