"""The candidates of a training: their tokens, the teachers' outputs for them, and which of them belong to which row.

A candidate table lists up to K candidates for each row of train, numbered by rank from 0 (the nearest). The candidates
picked for B rows are an array [B, n] of ranks, filled up with -1 where a row has fewer than n.
"""

from collections.abc import Callable, Iterator, Sequence
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
from stages.models.adapters.text import tokens_per_pass
from stages.specs.schedule import OutputRequest
from stages.training.signal import Signal

Ranks = npt.NDArray[np.int16]

NONE = -1
"""Stands for no candidate, both among ranks and among row numbers."""


@dataclass(frozen=True, slots=True)
class CandidateBatch:
    """Candidates to train on. ``share`` [B] is the weight of each among the candidates of its row: 1 / their number."""

    batch: Batch
    share: Tensor

    def to(self, device: str) -> "CandidateBatch":
        """The same batch on ``device``."""
        return CandidateBatch(self.batch.to(device), self.share.to(device, non_blocking=True))

    def pinned(self) -> "CandidateBatch":
        """The same batch in pinned host memory, from which copies to a GPU do not block."""
        return CandidateBatch(self.batch.pinned(), self.share.pin_memory())


@dataclass(frozen=True, slots=True)
class CandidatePool:
    """All candidates of a training.

    ``rows`` are the tokenised candidates, each text once, and ``signal`` gives the teachers' outputs for them.
    ``table`` [N, K] holds, for each of the N rows of train and by rank, the number of the candidate in ``rows``, or -1
    where the row has fewer than K or the candidate of that rank is left out; ``distances`` [N, K] is the distance of
    each from its row, NaN where unknown.
    """

    rows: Rowset
    signal: Signal
    table: npt.NDArray[np.int64]
    distances: npt.NDArray[np.float32]

    @property
    def k(self) -> int:
        """K, the most candidates of a row."""
        return int(self.table.shape[1])

    def all_ranks(self, rows: Rows) -> Ranks:
        """[B, K]: the ranks of every candidate of these B rows of train."""
        ranks = np.arange(self.k, dtype=np.int16)
        return np.where(self.table[rows] >= 0, ranks, NONE).astype(np.int16)

    def batches(
        self,
        chosen: Rows,
        request: OutputRequest,
        device: str,
        max_rows: int | None,
        rank: int = 0,
        world_size: int = 1,
    ) -> Iterator[tuple[Rows, Batch]]:
        """The candidates with these numbers in batches of similar length, together with the teachers' stored outputs.

        Each batch comes with the places of its candidates in ``chosen``. It has at most ``max_rows`` rows (512 if
        None) and about ``tokens_per_pass`` tokens. Of several workers, each receives every ``world_size``-th batch.
        """
        costs = self.rows.costs[chosen]
        for places in sorted_batches(costs, tokens_per_pass(device), max_rows or 512)[rank::world_size]:
            batch = self.rows.batch(chosen[places], "cpu")
            yield places, replace(batch, read=self.signal.read(chosen[places], request))

    def picked_batches(
        self,
        rows: Rows,
        picked: Ranks,
        request: OutputRequest,
        device: str,
        max_rows: int | None,
        fit: Callable[[Batch], Batch],
    ) -> Sequence[CandidateBatch]:
        """The candidates with the ranks ``picked`` [B, n] of these B rows of train, in host memory (pinned for a GPU),
        each batch as ``fit`` changes it. The candidates of one row have equal shares."""
        row, place = np.nonzero(picked != NONE)
        chosen = self.table[rows[row], picked[row, place]]
        share = (1.0 / np.maximum(1, (picked != NONE).sum(1))).astype(np.float32)[row]
        found = [
            CandidateBatch(fit(batch), torch.from_numpy(share[places]))
            for places, batch in self.batches(chosen, request, device, max_rows)
        ]
        return [batch.pinned() for batch in found] if device.startswith("cuda") else found


TABLE_COLUMNS = ("row_key", "rank", "distance", "candidate_key")
"""The columns of a candidate table that ``candidate_pool`` reads."""


def candidate_pool(texts: Rowset, signal: Signal, table: pa.Table, row_keys: Sequence[bytes], k: int) -> CandidatePool:
    """The candidates of rank below ``k`` for the rows of train with these keys.

    ``table`` is a candidate table with the columns ``TABLE_COLUMNS``. A row that is not in it has no candidates.
    Raises ValueError if the table has candidates that are not among ``texts``.
    """
    rows, first = np.unique(np.array(row_keys, object), return_inverse=True)
    place = pc.index_in(table["row_key"], value_set=pa.array(rows.tolist(), pa.binary(KEY_BYTES)))
    number = pc.index_in(table["candidate_key"], value_set=pa.array(texts.row_keys, pa.binary(KEY_BYTES)))
    if number.null_count:
        raise ValueError(
            f"candidates: {number.null_count} of the table are not among the tokenised candidates; rebuild both"
        )
    known = np.asarray(place.is_valid())
    rank = table["rank"].to_numpy()
    kept = known & (rank < k)
    at = (np.asarray(place.fill_null(0))[kept], rank[kept])
    numbers = np.full((len(rows), k), NONE, np.int64)
    distances = np.full((len(rows), k), np.nan, np.float32)
    numbers[at] = np.asarray(number)[kept]
    distances[at] = table["distance"].to_numpy()[kept]
    return CandidatePool(texts, signal, numbers[first], distances[first])


# --- statistics of the candidates that were trained on --------------------------------------------------

USAGE_SUMS = 6
"""Number of sums that ``usage_sums`` returns beside the K counts by rank."""


def usage_sums(
    pool: CandidatePool, rows: Rows, picked: Ranks, divergences: npt.NDArray[np.float32] | None
) -> npt.NDArray[np.float64]:
    """[K + 6]: sums over the candidates picked for these B rows, to be added up over steps and workers.

    First the number of picked candidates by rank (K values), then six sums: the known distances of the picked
    candidates and how many are known, the divergences of the picked candidates and their number, the divergences of
    all scored candidates and their number. ``divergences`` is [B, K], or None where no candidate was scored.
    """
    by_rank = np.bincount(picked[picked != NONE], minlength=pool.k).astype(np.float64)
    row, place = np.nonzero(picked != NONE)
    distances = pool.distances[rows[row], picked[row, place]]
    known = np.isfinite(distances)
    sums = [float(distances[known].sum(dtype=np.float64)), float(known.sum())]
    if divergences is None:
        return np.concatenate([by_rank, sums, np.zeros(4)])
    of_picked = divergences[row, picked[row, place]].astype(np.float64)
    of_all = divergences[pool.table[rows] >= 0].astype(np.float64)
    sums += [float(of_picked.sum()), float(len(of_picked)), float(of_all.sum()), float(len(of_all))]
    return np.concatenate([by_rank, sums])


def usage_summary(sums: Sequence[float], k: int) -> dict[str, Any]:
    """The entry ``candidates`` of an epoch in ``history.json``, from the sums of ``usage_sums`` over the epoch. A mean
    over no candidates is None."""
    by_rank, (distance, known, picked_divergence, picked, all_divergence, scored) = sums[:k], sums[k:]
    ranks = sum(rank * times for rank, times in enumerate(by_rank))
    used = sum(by_rank)
    return {
        "used": int(used),
        "by_rank": [int(times) for times in by_rank],
        "mean_rank": ranks / used if used else None,
        "mean_distance": distance / known if known else None,
        "mean_divergence": picked_divergence / picked if picked else None,
        "mean_divergence_of_all": all_divergence / scored if scored else None,
    }
