"""Divides rows into batches, and pads rows of different lengths. numpy only.

The batches of an epoch depend on its seed alone, not on the number of workers: each worker takes its share of the same
global batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]

BATCHES_PER_POOL = 50
"""Rows are sorted by length within pools of so many batches."""


def epoch_batches(lengths: npt.NDArray[np.int64], batch_size: int, seed: int) -> list[Rows]:
    """All rows once, in random batches of similar length. Rows are shuffled and cut into pools of ``BATCHES_PER_POOL``
    batches; each pool is sorted by length and cut into batches; the batches are shuffled. One batch may be smaller."""
    generator = np.random.Generator(np.random.PCG64(seed))
    order = generator.permutation(len(lengths)).astype(np.int64)
    batches: list[Rows] = []
    pool = batch_size * BATCHES_PER_POOL
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches.extend(rows[i : i + batch_size] for i in range(0, len(rows), batch_size))
    return [batches[i] for i in generator.permutation(len(batches))]


def steps_of(rows: int, batch_size: int) -> int:
    """Optimizer steps in one epoch: ceil(rows / batch_size)."""
    return -(-rows // batch_size)


def sorted_batches(lengths: npt.NDArray[np.int64], tokens: int, rows: int = 512) -> list[Rows]:
    """All rows once, the longest first, in batches of at most ``rows`` rows and ``tokens`` tokens with padding. A row
    that alone has more tokens is a batch by itself."""
    order = np.argsort(-lengths, kind="stable").astype(np.int64)
    batches = []
    start = 0
    while start < len(order):
        count = int(min(rows, max(1, tokens // max(1, int(lengths[order[start]])))))
        batches.append(order[start : start + count])
        start += count
    return batches


@dataclass(frozen=True, slots=True)
class Share:
    """A worker's rows of a global batch. ``weight`` is 1, or 0 for a worker without rows of its own, which then
    computes one row that does not count."""

    rows: Rows
    weight: float


def share_of(batch: Rows, rank: int, world_size: int) -> Share:
    """Every ``world_size``-th row, from row ``rank`` on. All workers must take part in a step, so a worker for which no
    row is left gets the first row with weight 0."""
    rows = batch[rank::world_size]
    return Share(rows, 1.0) if len(rows) else Share(batch[:1], 0.0)


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of different lengths, concatenated: row i is ``values[offsets[i]:offsets[i + 1]]``."""

    values: npt.NDArray[np.int32] | npt.NDArray[np.int8]
    offsets: npt.NDArray[np.int64]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.offsets)

    def padded(self, rows: Rows, fill: int) -> npt.NDArray[np.int64]:
        """These rows, [len(rows), length of the longest], padded at the end with ``fill``."""
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        columns = np.arange(int(lengths.max()), dtype=np.int64)
        inside = columns < lengths[:, None]
        taken = np.where(inside, starts[:, None] + columns, 0)
        return np.where(inside, self.values[taken], fill).astype(np.int64)

    def take(self, rows: Rows) -> "Ragged":
        """These rows, in this order."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        places = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Ragged(self.values[places], offsets)

    def followed_by(self, other: "Ragged") -> "Ragged":
        """These rows, then the other's."""
        values = np.concatenate([self.values, other.values])
        return Ragged(values, np.concatenate([self.offsets, self.offsets[-1] + other.offsets[1:]]))

    def mask(self, rows: Rows) -> npt.NDArray[np.int64]:
        """1 for a token and 0 for padding, in the shape of ``padded``."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        return (np.arange(int(lengths.max())) < lengths[:, None]).astype(np.int64)


def parts(total: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, end) of consecutive parts of ``size`` that cover ``total``; the last may be smaller."""
    return ((start, min(start + size, total)) for start in range(0, total, size))
