"""Candidates beside the rows of a batch: all of a row's neighbours, some drawn at random, or those that minimax picks.

Minimax-kNN (Kamalloo et al. 2021, "Not Far Away, Not So Close: Sample Efficient Nearest Neighbour Data Augmentation via
MiniMax", Findings of ACL 2021) keeps, of the K neighbours x'_1 .. x'_K of a row x, the k1 on which student S and
teacher T differ most, and trains the student on these:

    max step:  X' = the k1 candidates of greatest d(T(x'_k), S(x'_k)), k = 1 .. K
    min step:  minimise over S  loss(x) + weight * w / |X'| * sum over x' in X' of d(T(x'), S(x'))

The divergence d is the term that the training has on the teacher's logits (``TeacherTerm.distance``) and w its weight
in loss(x); K is ``k``, k1 is ``keep`` and the weight is ``weight`` of the method's axis ``data``.

For the max step each candidate of a row goes through the student once, without gradients and without dropout, whatever
k1 is; the teacher's logits are read from their store. The authors' code leaves dropout on, and scores all K candidates
again for each one that it keeps.

Drawing at random (``draw`` of the method's axis ``data``) scores nothing. With as many candidates as minimax keeps, it
is the comparison that shows what picking by divergence is worth.
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
from stages.specs.axes.data import Minimax, Neighbours, WithCandidates
from stages.specs.axes.terms import TeacherTerm, teacher_term
from stages.specs.axes.training import Position
from stages.specs.schedule import EpochPlan, OutputRequest
from stages.specs.seeds import seed_of
from stages.training.candidates import NONE, CandidateBatch, CandidatePool, Ranks, usage_sums

Divergences = npt.NDArray[np.float32]

DRAWS = 1
"""Last part of the seed of an epoch's draws, so that they differ from the random numbers that order its batches."""


def most_divergent(divergences: Divergences, ranks: Ranks, keep: int) -> Ranks:
    """[B, keep]: for each row the ranks of the ``keep`` candidates of greatest divergence, the lower rank first among
    equals.

    ``divergences`` is [B, K] by rank. ``ranks`` [B, K] holds the ranks that a row has, -1 elsewhere; a row with fewer
    than ``keep`` candidates keeps them all, and its result is filled up with -1.
    """
    scored = np.where(ranks != NONE, divergences, -np.inf)
    order = np.argsort(-scored, axis=1, kind="stable")[:, :keep]
    return np.take_along_axis(ranks, order, axis=1)


def drawn_at_random(ranks: Ranks, draw: int, seed: int) -> Ranks:
    """[N, draw]: for each row the ranks of ``draw`` of its candidates, drawn without replacement.

    ``ranks`` is as in ``most_divergent``, and a row with fewer than ``draw`` candidates is treated as it is there. What
    is drawn for the row at place n depends on ``seed``, n, K and the ranks of that row alone.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    return most_divergent(generator.random(ranks.shape, np.float32), ranks, draw)


@dataclass(frozen=True, slots=True)
class CandidateScoring:
    """All candidates of these B rows of train, before some are picked. ``ranks`` is [B, K]; each batch comes with the
    places of its candidates among the ranks that are not -1."""

    rows: Rows
    ranks: Ranks
    batches: Sequence[tuple[Rows, Batch]]


@dataclass(frozen=True, slots=True)
class StepCandidates:
    """The candidates of one step: either those to train on (``batches``, with their ``usage`` [K + 6] as in
    ``usage_sums``), or those that the student has yet to score (``scoring``)."""

    batches: Sequence[CandidateBatch] = ()
    usage: npt.NDArray[np.float64] | None = None
    scoring: CandidateScoring | None = None


class Augmentation:
    """Trains on candidates beside the rows of train, as the method's axis ``data`` defines it.

    A forward pass has at most as many candidates as it may have rows of train (``micro_batch``), so that candidates
    need no more of a device's memory than the rows do.
    """

    def __init__(
        self, pool: CandidatePool, data: WithCandidates, precision: str, device: str, micro_batch: int | None
    ) -> None:
        self.pool = pool
        self.data = data
        self.precision = precision
        self.device = device
        self.max_rows = micro_batch

    def scores_all(self, position: Position) -> bool:
        """Whether all candidates of train are scored when the epoch at ``position`` begins."""
        return isinstance(self.data, Minimax) and self.data.rescores(position.epoch)

    def pick_for_all_rows(self, model: nn.Module, plan: EpochPlan, rank: int, world_size: int) -> Tensor:
        """[N, keep]: the ranks of the candidates picked for all N rows of train. Each distinct candidate goes through
        the student once; workers share the candidates, and all return the whole result."""
        assert isinstance(self.data, Minimax)
        pool, numbers = self.pool, np.arange(len(self.pool.rows), dtype=np.int64)
        batches = pool.batches(numbers, logits_only(plan.request), self.device, self.max_rows, rank, world_size)
        found = self._divergences(model, batches, len(numbers), plan)
        if world_size > 1:
            whole = torch.from_numpy(found).to(self.device)
            torch.distributed.all_reduce(whole)
            found = whole.cpu().numpy()
        rows = np.arange(len(pool.table), dtype=np.int64)
        return torch.from_numpy(most_divergent(found[pool.table], pool.all_ranks(rows), self.data.keep))

    def draw_for_all_rows(self, seed: int, position: Position) -> Tensor | None:
        """[N, draw]: the ranks of the candidates that all N rows of train are trained with in the epoch at
        ``position``; None if the method does not draw. ``seed`` is the student's. No worker or earlier epoch has an
        influence, so that nothing has to be stored for a training that is resumed."""
        if not isinstance(self.data, Neighbours) or self.data.draw is None:
            return None
        rows = np.arange(len(self.pool.table), dtype=np.int64)
        epoch_seed = seed_of(seed, position.phase, position.epoch, DRAWS)
        return torch.from_numpy(drawn_at_random(self.pool.all_ranks(rows), self.data.draw, epoch_seed))

    def prepare_step(self, rows: Rows, request: OutputRequest, picked: Tensor | None) -> StepCandidates:
        """The candidates for a step on these rows of train, in host memory. Runs in the prefetching thread.

        ``picked`` [N, n] are the ranks from ``pick_for_all_rows`` or ``draw_for_all_rows``, or None. A method that
        picks in each step gets candidates to be scored; any other gets the candidates to train on.
        """
        pool, logits_request = self.pool, logits_only(request)
        if isinstance(self.data, Minimax) and self.data.every == "step":
            ranks = pool.all_ranks(rows)
            numbers = pool.table[rows][ranks >= 0]
            batches = list(pool.batches(numbers, logits_request, self.device, self.max_rows))
            return StepCandidates(scoring=CandidateScoring(rows, ranks, batches))
        ranks = pool.all_ranks(rows) if picked is None else picked.numpy()[rows]
        chosen = pool.picked_batches(rows, ranks, logits_request, self.device, self.max_rows or len(rows))
        return StepCandidates(chosen, usage_sums(pool, rows, ranks, None))

    def pick_for_step(self, model: nn.Module, candidates: StepCandidates, plan: EpochPlan) -> StepCandidates:
        """The max step: score the candidates with the student as it is, and pick those to train on. Returns
        ``candidates`` itself where none are to be scored."""
        scoring = candidates.scoring
        if scoring is None:
            return candidates
        assert isinstance(self.data, Minimax)
        divergences = np.zeros(scoring.ranks.shape, np.float32)
        number = int((scoring.ranks >= 0).sum())
        divergences[scoring.ranks >= 0] = self._divergences(model, scoring.batches, number, plan)
        picked = most_divergent(divergences, scoring.ranks, self.data.keep)
        max_rows = self.max_rows or len(scoring.rows)
        chosen = self.pool.picked_batches(scoring.rows, picked, logits_only(plan.request), self.device, max_rows)
        return StepCandidates(chosen, usage_sums(self.pool, scoring.rows, picked, divergences))

    def loss(self, model: nn.Module, candidates: CandidateBatch, plan: EpochPlan) -> Tensor:
        """[B]: the weighted divergence of each candidate, plan.candidates * share * d(T(x'), S(x')). The sum over a
        row's candidates is the weight times their mean divergence."""
        with autocast(self.device, self.precision):
            logits, _ = forward(model, candidates.batch.inputs)
        outputs = self.pool.signal(candidates.batch, logits_only(plan.request))
        distance = divergence(plan).distance(logits.float(), outputs["logits"])
        return plan.candidates * candidates.share * distance

    def _divergences(
        self,
        model: nn.Module,
        batches: Iterable[tuple[Rows, Batch]],
        number: int,
        plan: EpochPlan,
    ) -> Divergences:
        """[number]: the divergence between student and teachers at each place of ``batches``, 0 at places that no batch
        has. The model is left in the mode it was in."""
        found = np.zeros(number, np.float32)
        training, term = model.training, divergence(plan)
        model.eval()
        with torch.inference_mode(), autocast(self.device, self.precision):
            for places, host_batch in batches:
                batch = host_batch.to(self.device)
                logits, _ = forward(model, batch.inputs)
                outputs = self.pool.signal(batch, logits_only(plan.request))
                distance = term.distance(logits.float(), outputs["logits"])
                found[places] = distance.cpu().numpy()
        model.train(training)
        return found


def logits_only(request: OutputRequest) -> OutputRequest:
    """``request`` without layers: layers are matched on the rows of train, not on candidates."""
    return replace(request, layers=())


def divergence(plan: EpochPlan) -> TeacherTerm:
    """The term on the teacher's logits in an epoch with candidates."""
    term = teacher_term(plan.terms)
    assert term is not None
    return term
