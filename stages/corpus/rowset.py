"""A split of the corpus as the training loop uses it: rows in memory, padded when a batch is formed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stages.corpus.batches import Ragged, Rows
from stages.corpus.reader import read_meta, read_split


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded inputs [B, T], labels [B] (int64, or float32 of a regression), the rows' numbers in the split, and what
    was read from stores of teachers' outputs for these rows."""

    inputs: dict[str, Tensor]
    labels: Tensor
    rows: Rows
    read: Mapping[str, Tensor] = field(default_factory=dict)

    def pinned(self) -> "Batch":
        """The batch in pinned memory, from which a GPU can copy while it computes."""
        inputs, read = ({name: value.pin_memory() for name, value in part.items()} for part in (self.inputs, self.read))
        return Batch(inputs, self.labels.pin_memory(), self.rows, read)

    def padded(self, length: int, pad: int) -> "Batch":
        """The batch with inputs of ``length`` tokens, at least as many as they have, filled up with the id ``pad``
        under a mask of 0."""
        more = length - self.inputs["input_ids"].shape[1]
        fill = {"input_ids": pad}
        inputs = {
            name: torch.nn.functional.pad(value, (0, more), value=fill.get(name, 0))
            for name, value in self.inputs.items()
        }
        return replace(self, inputs=inputs)

    def to(self, device: str) -> "Batch":
        """The batch on ``device``. A copy from pinned memory is asynchronous."""
        inputs, read = (
            {name: value.to(device, non_blocking=True) for name, value in part.items()}
            for part in (self.inputs, self.read)
        )
        return Batch(inputs, self.labels.to(device, non_blocking=True), self.rows, read)


@dataclass(frozen=True, slots=True)
class Rowset:
    """The rows of a split. ``labels`` has no meaning where ``labelled`` is False. ``pad``: the id of the padding
    token."""

    tokens: Ragged
    types: Ragged | None
    labels: Tensor
    labelled: npt.NDArray[np.bool_]
    row_keys: Sequence[bytes]
    index: npt.NDArray[np.int64]
    pad: int

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, rows: Rows, device: str) -> Batch:
        """The batch of these rows on ``device``."""
        inputs = {"input_ids": self.tokens.padded(rows, self.pad), "attention_mask": self.tokens.mask(rows)}
        if self.types is not None:
            inputs["token_type_ids"] = self.types.padded(rows, 0)
        tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
        return Batch(tensors, self.labels[torch.from_numpy(rows)], rows).to(device)


def read_rowset(corpus: Path, name: str) -> Rowset:
    """The split ``name`` of the corpus in the directory ``corpus``."""
    split = read_split(corpus, name)
    types = None if split.type_ids is None else Ragged(split.type_ids, split.offsets)
    tokens, labels = Ragged(split.tokens, split.offsets), torch.from_numpy(np.array(split.labels))
    return Rowset(tokens, types, labels, split.labelled, split.keys, split.index, read_meta(corpus).pad_token_id)


def distinct(splits: Sequence[Rowset]) -> Rowset:
    """The rows of all splits with distinct keys: of rows with equal keys the first."""
    used: set[bytes] = set()
    parts = []
    for split in splits:
        fresh = []
        for row, key in enumerate(split.row_keys):
            if key not in used:
                used.add(key)
                fresh.append(row)
        parts.append(take_rows(split, np.array(fresh, np.int64)))
    return reduce(_joined, parts)


def take_rows(split: Rowset, rows: Rows) -> Rowset:
    """The rows of a split with these numbers, in this order."""
    types = None if split.types is None else split.types.take(rows)
    keys = [split.row_keys[row] for row in rows]
    labels = split.labels[torch.from_numpy(rows)]
    return Rowset(split.tokens.take(rows), types, labels, split.labelled[rows], keys, split.index[rows], split.pad)


def _joined(one: Rowset, other: Rowset) -> Rowset:
    types = one.types.followed_by(other.types) if one.types is not None and other.types is not None else None
    return Rowset(
        one.tokens.followed_by(other.tokens),
        types,
        torch.cat([one.labels, other.labels]),
        np.concatenate([one.labelled, other.labelled]),
        [*one.row_keys, *other.row_keys],
        np.concatenate([one.index, other.index]),
        one.pad,
    )
