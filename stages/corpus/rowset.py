"""A split of the corpus as the training loop uses it: rows in memory, collated when a batch is formed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from stages.corpus.batches import Ragged, Rows, epoch_batches
from stages.corpus.examples.protocol import Examples
from stages.corpus.examples.token_rows import TokenRows
from stages.corpus.examples.word_rows import WordRows
from stages.corpus.reader import ImageRows, RowTable, read_image_rows, read_meta, read_row_table, read_split


@dataclass(frozen=True, slots=True)
class Batch:
    """The inputs of a model for B rows, labels [B] (int64, or float32 of a regression; of rows with entries [B, W], 0
    beyond a row), the rows' numbers in the split, and what was read from stores of teachers' outputs for these rows."""

    inputs: dict[str, Tensor]
    labels: Tensor
    rows: Rows
    read: Mapping[str, Tensor] = field(default_factory=dict)

    def pinned(self) -> "Batch":
        """The batch in pinned memory, from which a GPU can copy while it computes."""
        inputs, read = ({name: value.pin_memory() for name, value in part.items()} for part in (self.inputs, self.read))
        return Batch(inputs, self.labels.pin_memory(), self.rows, read)

    def to(self, device: str) -> "Batch":
        """The batch on ``device``. A copy from pinned memory is asynchronous."""
        inputs, read = (
            {name: value.to(device, non_blocking=True) for name, value in part.items()}
            for part in (self.inputs, self.read)
        )
        return Batch(inputs, self.labels.to(device, non_blocking=True), self.rows, read)


@dataclass(frozen=True, slots=True)
class Rowset:
    """The N rows of a split. ``labels`` has no meaning where ``labelled`` is False.

    ``offsets`` is None if a row has one label. Otherwise a row has one label at least, each of an entry of its own:
    ``labels`` [E] has those of all rows, one after the other, and row i has those from ``offsets[i]`` to before
    ``offsets[i + 1]``. Then ``labelled`` [N] is of rows all the same.

    With several ``views`` of each of n rows, there are views * n rows, and row v * n + i is view v of row i. An epoch
    goes through one view of each row: epoch e through view e modulo ``views``.
    """

    examples: Examples
    labels: Tensor
    labelled: npt.NDArray[np.bool_]
    row_keys: Sequence[bytes]
    index: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64] | None = None
    views: int = 1

    def __len__(self) -> int:
        return len(self.index)

    @property
    def epoch_rows(self) -> int:
        """The number of rows in an epoch."""
        return len(self) // self.views

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[Rows]:
        """The rows of each batch of an epoch, which counts from 0 over all phases, as ``epoch_batches`` forms them."""
        count = self.epoch_rows
        start = (epoch % self.views) * count
        return [start + rows for rows in epoch_batches(self.costs[start : start + count], batch_size, seed)]

    @property
    def labelled_places(self) -> npt.NDArray[np.bool_]:
        """Which of ``labels`` have a meaning."""
        return self.labelled if self.offsets is None else np.repeat(self.labelled, np.diff(self.offsets))

    @property
    def label_keys(self) -> Sequence[bytes]:
        """The key of the row of each of ``labels``."""
        if self.offsets is None:
            return self.row_keys
        return [key for key, count in zip(self.row_keys, np.diff(self.offsets), strict=True) for _ in range(count)]

    def entry_counts(self, rows: Rows) -> npt.NDArray[np.int64]:
        """The number of labels of each of these rows."""
        return np.ones(len(rows), np.int64) if self.offsets is None else np.diff(self.offsets)[rows]

    def places(self, rows: Rows) -> Rows:
        """The places in ``labels`` of the labels of these rows, one row after the other."""
        if self.offsets is None:
            return rows
        counts = self.entry_counts(rows)
        ends = np.cumsum(counts)
        return np.repeat(self.offsets[rows] - (ends - counts), counts) + np.arange(int(counts.sum()))

    @property
    def costs(self) -> npt.NDArray[np.int64]:
        """[N]: what each row costs to compute, by which batches are formed (``Examples.costs``)."""
        return self.examples.costs

    def batch(self, rows: Rows, device: str) -> Batch:
        """The batch of these rows on ``device``."""
        inputs = {name: torch.from_numpy(values) for name, values in self.examples.collate(rows).items()}
        return Batch(inputs, self._labels_of(rows), rows).to(device)

    def _labels_of(self, rows: Rows) -> Tensor:
        """The labels of a batch of these rows."""
        chosen = self.labels[torch.from_numpy(self.places(rows))]
        if self.offsets is None:
            return chosen
        counts = torch.from_numpy(self.entry_counts(rows))
        return nn.utils.rnn.pad_sequence(chosen.split(counts.tolist()), batch_first=True)


def read_rowset(corpus: Path, name: str) -> Rowset:
    """The split ``name`` of the corpus in the directory ``corpus``; the images of train are there in all views."""
    if read_meta(corpus).task.image is not None:
        return _image_rowset(read_image_rows(corpus, name), read_row_table(corpus, name))
    split = read_split(corpus, name)
    types = None if split.type_ids is None else Ragged(split.type_ids, split.offsets)
    examples: Examples = TokenRows(Ragged(split.tokens, split.offsets), types, read_meta(corpus).pad_token_id)
    if split.words is not None and split.first_pieces is not None:
        assert isinstance(examples, TokenRows)
        examples = WordRows(examples, Ragged(split.first_pieces, split.words))
    labels = torch.from_numpy(np.array(split.labels))
    return Rowset(examples, labels, split.labelled, split.keys, split.index, split.words)


def _image_rowset(found: ImageRows, table: RowTable) -> Rowset:
    labels = torch.from_numpy(np.array(table.labels))
    return Rowset(found.pixels, labels, table.labelled, table.keys, table.index, views=found.views)


def token_rows(rows: Rowset) -> TokenRows:
    """The rows as tokens, for what works on tokens alone. Raises TypeError for rows of another kind, which planning
    refuses."""
    if not isinstance(rows.examples, TokenRows):
        raise TypeError(f"{type(rows.examples).__name__}: rows of tokens are needed")
    return rows.examples


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
    """The rows of a split with these numbers, in this order, as rows of one view."""
    keys = [split.row_keys[row] for row in rows]
    labels = split.labels[torch.from_numpy(split.places(rows))]
    offsets = None
    if split.offsets is not None:
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(split.entry_counts(rows))])
    return Rowset(split.examples.take(rows), labels, split.labelled[rows], keys, split.index[rows], offsets)


def without(split: Rowset, keys: Collection[bytes]) -> Rowset:
    """The rows of a split of which no view has one of these keys; the same object if ``keys`` is empty."""
    if not keys:
        return split
    bad = np.array([key in keys for key in split.row_keys], np.bool_).reshape(split.views, -1).any(0)
    rows = np.flatnonzero(np.tile(~bad, split.views)).astype(np.int64)
    return replace(take_rows(split, rows), views=split.views)


def _joined(one: Rowset, other: Rowset) -> Rowset:
    return Rowset(
        one.examples.followed_by(other.examples),
        torch.cat([one.labels, other.labels]),
        np.concatenate([one.labelled, other.labelled]),
        [*one.row_keys, *other.row_keys],
        np.concatenate([one.index, other.index]),
        _joined_offsets(one.offsets, other.offsets),
    )


def _joined_offsets(
    one: npt.NDArray[np.int64] | None, other: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.int64] | None:
    if one is None or other is None:
        return None
    return np.concatenate([one, one[-1] + other[1:]])
