"""The candidates of a training: their texts in tokens, what teachers said of them, and which belong to which row.

A row's candidates are known by rank. What is picked of them for B rows is an array [B, n] of ranks, -1 where a row
has fewer than n.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from stages.corpus.batches import Rows, sorted_batches
from stages.corpus.row_key import KEY_BYTES
from stages.corpus.rowset import Batch, Rowset
from stages.models.predict import TOKENS
from stages.specs.schedule import OutputRequest
from stages.training.signal import Signal

Ranks = npt.NDArray[np.int16]
NONE = -1


@dataclass(frozen=True, slots=True)
class Extra:
    """Candidates that are trained with, and the share [B] that each has of what its row's candidates weigh together."""

    batch: Batch
    share: Tensor

    def to(self, device: str) -> "Extra":
        return Extra(self.batch.to(device), self.share.to(device, non_blocking=True))

    def pinned(self) -> "Extra":
        return Extra(self.batch.pinned(), self.share.pin_memory())


@dataclass(frozen=True, slots=True)
class Pool:
    """``table`` [N, K] has for each row of train the numbers of its candidates in ``rows``, by rank, -1 where it has
    fewer than K; ``distances`` [N, K] their distances from it. ``signal`` speaks of ``rows``."""

    rows: Rowset
    signal: Signal
    table: npt.NDArray[np.int64]
    distances: npt.NDArray[np.float32]

    @property
    def k(self) -> int:
        return int(self.table.shape[1])

    def all_ranks(self, rows: Rows) -> Ranks:
        """Every candidate of these rows of train."""
        ranks = np.arange(self.k, dtype=np.int16)
        return np.where(self.table[rows] >= 0, ranks, NONE).astype(np.int16)

    def batches(
        self, chosen: Rows, request: OutputRequest, device: str, most: int | None, rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[Rows, Batch]]:
        """(places among ``chosen``, the candidates there) in batches of like length, with what is read of their
        teachers: at most ``most`` rows each, and about as many tokens as a forward pass takes best. Of several workers
        each has its share of the batches."""
        lengths = self.rows.tokens.lengths[chosen]
        for places in sorted_batches(lengths, TOKENS[device.split(":")[0]], most or 512)[rank::world_size]:
            batch = self.rows.batch(chosen[places], "cpu")
            yield places, replace(batch, read=self.signal.read(chosen[places], request))

    def extras(
        self, rows: Rows, picked: Ranks, request: OutputRequest, device: str, most: int | None
    ) -> Sequence[Extra]:
        """What is picked for these rows of train, in host memory. A row's candidates share alike."""
        row, place = np.nonzero(picked != NONE)
        chosen = self.table[rows[row], picked[row, place]]
        each = (1.0 / np.maximum(1, (picked != NONE).sum(1))).astype(np.float32)[row]
        found = [
            Extra(batch, torch.from_numpy(each[places]))
            for places, batch in self.batches(chosen, request, device, most)
        ]
        return [extra.pinned() for extra in found] if device.startswith("cuda") else found


FOUND = ("row_key", "rank", "distance", "candidate_key")
"""The columns of a candidate table that are needed here."""


def pool(texts: Rowset, signal: Signal, found: pa.Table, row_keys: Sequence[bytes], k: int) -> Pool:
    """The candidates of rank below ``k`` for rows with these keys. ``found`` has the columns ``FOUND`` of a table whose
    candidates are all among ``texts``; a row that it does not know has none."""
    rows, first = np.unique(np.array(row_keys, object), return_inverse=True)
    place = pc.index_in(found["row_key"], value_set=pa.array(rows.tolist(), pa.binary(KEY_BYTES)))
    number = pc.index_in(found["candidate_key"], value_set=pa.array(texts.row_keys, pa.binary(KEY_BYTES)))
    if number.null_count:
        raise ValueError(f"candidates: {number.null_count} are not among the tokenised ones; make both anew")
    known = np.asarray(place.is_valid())
    rank = found["rank"].to_numpy()
    taken = known & (rank < k)
    at = (np.asarray(place.fill_null(0))[taken], rank[taken])
    table = np.full((len(rows), k), NONE, np.int64)
    distances = np.full((len(rows), k), np.nan, np.float32)
    table[at] = np.asarray(number)[taken]
    distances[at] = found["distance"].to_numpy()[taken]
    return Pool(texts, signal, table[first], distances[first])


def most_divergent(divergences: npt.NDArray[np.float32], ranks: Ranks, keep: int) -> Ranks:
    """[B, keep]: the ranks of the greatest of ``divergences`` [B, K] among those that ``ranks`` [B, K] has. Of equals
    the lower rank goes first."""
    scored = np.where(ranks != NONE, divergences, -np.inf)
    order = np.argsort(-scored, axis=1, kind="stable")[:, :keep]
    return np.take_along_axis(ranks, order, axis=1)


# --- what is counted ------------------------------------------------------------------------------------

SUMS = 6
"""What is counted beside candidates by rank."""


def count(
    pool: Pool, rows: Rows, picked: Ranks, divergences: npt.NDArray[np.float32] | None
) -> npt.NDArray[np.float64]:
    """[K + 6], to be summed over steps and workers: candidates picked by rank; the sum of their distances and the
    number of those that are known; the sum and number of the divergences of those that are picked, and of all that
    were scored. ``divergences`` is [B, K]."""
    by_rank = np.bincount(picked[picked != NONE], minlength=pool.k).astype(np.float64)
    row, place = np.nonzero(picked != NONE)
    distances = pool.distances[rows[row], picked[row, place]]
    known = np.isfinite(distances)
    sums = [float(distances[known].sum(dtype=np.float64)), float(known.sum())]
    if divergences is None:
        return np.concatenate([by_rank, sums, np.zeros(4)])
    best = divergences[row, picked[row, place]].astype(np.float64)
    all_of_them = divergences[pool.table[rows] >= 0].astype(np.float64)
    sums += [float(best.sum()), float(len(best)), float(all_of_them.sum()), float(len(all_of_them))]
    return np.concatenate([by_rank, sums])


def counted(tally: Sequence[float], k: int) -> dict[str, Any]:
    """What the history says of an epoch's sums."""
    by_rank, (distance, known, best, picked, every, scored) = tally[:k], tally[k:]
    ranks = sum(rank * times for rank, times in enumerate(by_rank))
    used = sum(by_rank)
    return {
        "used": int(used),
        "by_rank": [int(times) for times in by_rank],
        "mean_rank": ranks / used if used else None,
        "mean_distance": distance / known if known else None,
        "mean_divergence": best / picked if picked else None,
        "mean_divergence_of_all": every / scored if scored else None,
    }
