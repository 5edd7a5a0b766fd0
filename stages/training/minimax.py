"""The axis ``data`` in the loop: which candidates go with a batch's rows.

All of them, or those few of which student and teacher differ most. To find these, each candidate of a row goes through
the student once, without gradients and without dropout, whatever number is kept; teachers are read. The original of
minimax-kNN leaves dropout on, and scores all K again for every one that is kept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from stages.corpus.batches import Rows
from stages.corpus.rowset import Batch
from stages.models.forward import forward
from stages.models.predict import autocast
from stages.specs.method import Method, Minimax, WithCandidates
from stages.specs.schedule import LossWeights, OutputRequest, Position, scored_anew
from stages.training.candidates import Extra, Pool, Ranks, count, most_divergent
from stages.training.losses import distance_of

Divergences = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CandidateScoring:
    """The candidates of these rows of train before some are picked: as batches, each with its places among those of
    ``ranks`` that are there."""

    rows: Rows
    ranks: Ranks
    batches: Sequence[tuple[Rows, Batch]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was made ready for a step: candidates that are known to be picked, or a contest."""

    extras: Sequence[Extra] = ()
    tally: npt.NDArray[np.float64] | None = None
    scoring: CandidateScoring | None = None


class Augmentation:
    """Candidates beside the rows of a training. They are trained in passes of no more rows than those of the task's
    own, so that what fits a device's memory still does."""

    def __init__(self, pool: Pool, method: Method, precision: str, device: str, micro_batch: int | None) -> None:
        assert isinstance(method.data, WithCandidates)
        self.pool = pool
        self.method = method
        self.data = method.data
        self.precision = precision
        self.device = device
        self.most = micro_batch

    def scores_all(self, position: Position) -> bool:
        """Whether this epoch begins with a look at all candidates."""
        return isinstance(self.data, Minimax) and scored_anew(self.data, position)

    def pick_all(
        self, model: nn.Module, weights: LossWeights, request: OutputRequest, rank: int, world_size: int
    ) -> Tensor:
        """[N, keep] ranks for all rows of train: each distinct candidate goes through the student once. Workers share
        them."""
        assert isinstance(self.data, Minimax)
        pool, every = self.pool, np.arange(len(self.pool.rows), dtype=np.int64)
        batches = pool.batches(every, only_logits(request), self.device, self.most, rank, world_size)
        found = self._divergences(model, batches, len(every), weights, request)
        if world_size > 1:
            whole = torch.from_numpy(found).to(self.device)
            torch.distributed.all_reduce(whole)
            found = whole.cpu().numpy()
        rows = np.arange(len(pool.table), dtype=np.int64)
        return torch.from_numpy(most_divergent(found[pool.table], pool.all_ranks(rows), self.data.keep))

    def prepare(self, rows: Rows, request: OutputRequest, picked: Tensor | None) -> Prepared:
        """For these rows of train. ``picked`` is of all rows, where they were picked at once. Runs in the prefetching
        thread."""
        pool, wanted = self.pool, only_logits(request)
        if isinstance(self.data, Minimax) and self.data.every == "step":
            ranks = pool.all_ranks(rows)
            chosen = pool.table[rows][ranks >= 0]
            return Prepared(
                scoring=CandidateScoring(rows, ranks, list(pool.batches(chosen, wanted, self.device, self.most)))
            )
        ranks = pool.all_ranks(rows) if picked is None else picked.numpy()[rows]
        extras = pool.extras(rows, ranks, wanted, self.device, self.most or len(rows))
        return Prepared(extras, count(pool, rows, ranks, None))

    def decide(self, model: nn.Module, ready: Prepared, weights: LossWeights, request: OutputRequest) -> Prepared:
        """What a contest ends with. What was known before stays as it is."""
        scoring = ready.scoring
        if scoring is None:
            return ready
        assert isinstance(self.data, Minimax)
        scored = np.zeros(scoring.ranks.shape, np.float32)
        there = int((scoring.ranks >= 0).sum())
        scored[scoring.ranks >= 0] = self._divergences(model, scoring.batches, there, weights, request)
        picked = most_divergent(scored, scoring.ranks, self.data.keep)
        most = self.most or len(scoring.rows)
        extras = self.pool.extras(scoring.rows, picked, only_logits(request), self.device, most)
        return Prepared(extras, count(self.pool, scoring.rows, picked, scored))

    def loss(self, model: nn.Module, extra: Extra, weights: LossWeights, request: OutputRequest) -> Tensor:
        """[B]: what the student owes for these candidates."""
        with autocast(self.device, self.precision):
            logits, _ = forward(model, extra.batch.inputs)
        outputs = self.pool.signal(extra.batch, only_logits(request))
        distance = distance_of(logits.float(), outputs["logits"], self.method, weights)
        return weights.candidates * extra.share * distance

    def _divergences(
        self,
        model: nn.Module,
        batches: Iterable[tuple[Rows, Batch]],
        number: int,
        weights: LossWeights,
        request: OutputRequest,
    ) -> Divergences:
        """[number]: how far the student is from its teachers at each place; 0 where no batch has it."""
        found = np.zeros(number, np.float32)
        training = model.training
        model.eval()
        with torch.inference_mode(), autocast(self.device, self.precision):
            for places, batch in batches:
                there = batch.to(self.device)
                logits, _ = forward(model, there.inputs)
                outputs = self.pool.signal(there, only_logits(request))
                found[places] = distance_of(logits.float(), outputs["logits"], self.method, weights).cpu().numpy()
        model.train(training)
        return found


def only_logits(request: OutputRequest) -> OutputRequest:
    """Layers are matched on the task's own rows alone."""
    return replace(request, layers=())
