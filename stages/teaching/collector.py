"""The teacher's outputs for the rows of a shard, collected from batches in any order."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.corpus.batches import Rows
from stages.models.predict import finite_or_raise
from stages.outputs.entry_logits import EntryLogits
from stages.outputs.layout import ITEM_TYPES, Layout
from stages.outputs.parquet import SCALED

Array = npt.NDArray[Any]
Outputs = tuple[Array | Sequence[Array], Mapping[str, Sequence[Array] | Array]]
"""Of a batch: the logits [B, outputs] (0 outputs for a store without them; of entries, an array [W, outputs] a row), or
the rows' lengths [B]; and for each column of states one array a row."""

REMEDY = "check the model's weights, or set store.on_bad_rows: quarantine to leave such rows out"


class OutputCollector:
    """Outputs for ``rows`` rows of ``layout``. States are kept in the number type in which they are stored, or as
    float32 if they will be quantised: pooled ones as one array [rows, width] a column, those of positions as one array
    a row."""

    def __init__(self, layout: Layout, rows: int) -> None:
        self.layout = layout
        self.dtype = state_type(layout)
        pooled = layout.part == "pooled"
        self.heads: Any = np.empty((rows, layout.outputs), np.float32) if pooled else np.empty(rows, np.int32)
        if layout.entries:
            self.heads = [np.empty((0, layout.outputs), np.float32)] * rows
        self.states: dict[str, Any] = {
            state.column: np.empty((rows, state.width), self.dtype) if pooled else [np.empty(0)] * rows
            for state in layout.states
        }

    def add(self, places: Rows, outputs: Outputs) -> None:
        """Keep the outputs for the rows at ``places`` of the shard."""
        heads, states = outputs
        if self.layout.entries:
            for place, row in zip(places, heads, strict=True):
                self.heads[place] = row
        else:
            self.heads[places] = heads
        with np.errstate(over="ignore"):  # ``finished`` refuses what overflows
            for column, values in states.items():
                if self.layout.part == "pooled":
                    self.states[column][places] = values
                    continue
                for place, row in zip(places, values, strict=True):
                    self.states[column][place] = row.astype(self.dtype)

    def values_of(self, places: Sequence[int]) -> dict[str, list[Array]]:
        """What has been added for these rows, in the form in which ``restore`` takes it: by column, one array a row."""
        heads = {"heads": [self.heads[place] for place in places]} if self._has_heads else {}
        return heads | {column: [rows[place] for place in places] for column, rows in self.states.items()}

    def restore(self, place: int, values: Mapping[str, Array]) -> None:
        """Enter what was saved of ``values_of`` a row, by column, each as an array of one dimension."""
        if self._has_heads:
            self.heads[place] = values["heads"] if self.layout.part == "pooled" else values["heads"][0]
        if self.layout.entries:
            self.heads[place] = values["heads"].reshape(-1, self.layout.outputs)
        for column, rows in self.states.items():
            flat = values[column]
            rows[place] = flat.reshape(-1, self.layout.width_of(column)) if self.layout.part == "tokens" else flat

    @property
    def _has_heads(self) -> bool:
        """Whether a row has logits or a length beside its states."""
        return self.layout.has_logits or self.layout.part != "pooled"

    def not_finite(self) -> dict[int, str]:
        """Place of a row in the shard -> the columns of its outputs that are not finite as they would be stored, such
        as "logits: nan; hidden_06: inf"; rows that are finite are left out. A value that float16 cannot hold is inf."""
        columns: dict[str, Any] = {"logits": self.heads} if self.layout.has_logits else {}
        found: dict[int, list[str]] = {}
        for column, rows in {**columns, **self.states}.items():
            for place in np.flatnonzero(~np.isfinite(_sums(rows))).tolist():
                kind = "nan" if np.isnan(rows[place]).any() else "inf"
                found.setdefault(place, []).append(f"{column}: {kind}")
        return {place: "; ".join(several) for place, several in sorted(found.items())}

    def finished(
        self, keys: Sequence[bytes], places: Rows | None = None
    ) -> tuple[Array | EntryLogits, dict[str, Array]]:
        """Logits [rows, outputs], or those of entries, or lengths [rows], and each column of states as ``write_shard``
        takes it: [rows, width], or all positions one after the other. ``places`` are the rows of the shard that are
        wanted (default: all), and ``keys`` their keys. Raises ValueError, naming a row, for values that are not
        finite."""
        return self._logits(keys, places), {
            column: self._column(column, rows, keys, places) for column, rows in self.states.items()
        }

    def _logits(self, keys: Sequence[bytes], places: Rows | None) -> Array | EntryLogits:
        """The logits, or lengths, of these rows, as ``finished`` returns them."""
        if self.layout.entries:
            chosen = self.heads if places is None else [self.heads[place] for place in places.tolist()]
            finite_or_raise(_sums(chosen), keys, "the teacher's logits", REMEDY)
            return EntryLogits.of(chosen)
        heads: Array = self.heads if places is None else self.heads[places]
        if self.layout.has_logits:
            finite_or_raise(heads, keys, "the teacher's logits", REMEDY)
        return heads

    def _column(self, column: str, rows: Any, keys: Sequence[bytes], places: Rows | None) -> Array:
        what = f"the teacher's {column} in {self.layout.precision} (store.precision)"
        if self.layout.part == "pooled":
            whole: Array = rows if places is None else rows[places]
            finite_or_raise(whole, keys, what, REMEDY)
            return whole
        wanted = rows if places is None else [rows[place] for place in places.tolist()]
        finite_or_raise(_sums(wanted), keys, what, REMEDY)
        return np.concatenate(wanted)


def state_type(layout: Layout) -> type[Any]:
    """The number type in which a worker keeps states: that of the store, or float32 where they will be quantised."""
    return np.float32 if layout.precision == SCALED else ITEM_TYPES[layout.precision]


def _sums(rows: Sequence[Array] | Array) -> Array:
    """The sum of each row's values: not finite where any value is not."""
    with np.errstate(invalid="ignore"):  # inf - inf
        if isinstance(rows, np.ndarray):
            found: Array = rows.sum(axis=1, dtype=np.float64)
            return found
        return np.array([row.sum(dtype=np.float64) for row in rows])
