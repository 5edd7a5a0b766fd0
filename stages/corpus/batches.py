"""Which rows make up a batch, and the batch as tensors' raw material. numpy only.

Batches depend on (seed, phase, epoch) alone, never on the number of workers: each worker takes its
share of the same global batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]

BUCKETS_OF = 50


def epoch_batches(lengths: npt.NDArray[np.int64], batch_size: int, seed: int) -> list[Rows]:
    """All rows once, in random batches of like length: shuffled, cut into pools of ``BUCKETS_OF`` batches,
    each pool sorted by length and cut into batches, the batches shuffled. The last batch may be short."""
    generator = np.random.Generator(np.random.PCG64(seed))
    order = generator.permutation(len(lengths)).astype(np.int64)
    batches: list[Rows] = []
    pool = batch_size * BUCKETS_OF
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches.extend(rows[i : i + batch_size] for i in range(0, len(rows), batch_size))
    return [batches[i] for i in generator.permutation(len(batches))]


def sorted_batches(lengths: npt.NDArray[np.int64], tokens: int, rows: int = 512) -> list[Rows]:
    """All rows once, longest first: at most ``rows`` rows and (but for one row alone) ``tokens`` padded tokens."""
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
    """A worker's part of a global batch. ``weight`` is 0 for the stand-in row of a worker that got none."""

    rows: Rows
    weight: float


def share_of(batch: Rows, rank: int, world_size: int) -> Share:
    """Every ``world_size``-th row. All workers must take part in a step, so one with no row gets one of weight 0."""
    rows = batch[rank::world_size]
    return Share(rows, 1.0) if len(rows) else Share(batch[:1], 0.0)


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of different lengths end to end: row i is ``values[offsets[i]:offsets[i + 1]]``."""

    values: npt.NDArray[np.int32] | npt.NDArray[np.int8]
    offsets: npt.NDArray[np.int64]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.offsets)

    def padded(self, rows: Rows, fill: int) -> npt.NDArray[np.int64]:
        """[len(rows), longest] with ``fill`` behind each row."""
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
        """[len(rows), longest]: 1 for a token, 0 for padding."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        return (np.arange(int(lengths.max())) < lengths[:, None]).astype(np.int64)


def parts(total: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, end) of consecutive parts of ``size``."""
    return ((start, min(start + size, total)) for start in range(0, total, size))
