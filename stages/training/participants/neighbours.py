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

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from stages.corpus.batches import Rows
from stages.corpus.rowset import Batch
from stages.device_turn import TURN
from stages.models.adapters.protocol import ForwardOutputs
from stages.models.forward import forward
from stages.models.predict import autocast
from stages.specs.axes.data import Minimax, Neighbours, WithCandidates
from stages.specs.axes.terms import TeacherTerm, teacher_term
from stages.specs.axes.training import Position
from stages.specs.schedule import CANDIDATES, EpochPlan, OutputRequest
from stages.specs.seeds import seed_of
from stages.training.candidates import (
    NONE,
    USAGE_SUMS,
    CandidateBatch,
    CandidatePool,
    Ranks,
    usage_summary,
    usage_sums,
)
from stages.training.checkpoint import State
from stages.training.objective.trained_parts import TrainedParts
from stages.training.optimizer import explain_out_of_memory
from stages.training.participants.protocol import Cost, Participant, Passes, Sums
from stages.training.sums import LOSS, term_place

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
    places of its candidates among the ranks that are not -1. ``fit`` brings a batch of those that are picked to the
    shape in which steps run."""

    rows: Rows
    ranks: Ranks
    batches: Sequence[tuple[Rows, Batch]]
    fit: Callable[[Batch], Batch]


@dataclass(frozen=True, slots=True)
class StepCandidates:
    """The candidates of one step: either those to train on (``batches``, with their ``usage`` [K + 6] as in
    ``usage_sums``), or those that the student has yet to score (``scoring``)."""

    batches: Sequence[CandidateBatch] = ()
    usage: npt.NDArray[np.float64] | None = None
    scoring: CandidateScoring | None = None


class Candidates(Participant):
    """Trains on candidates beside the rows of train, as the method's axis ``data`` defines it.

    A forward pass has at most as many candidates as it may have rows of train (``micro_batch``), so that candidates
    need no more of a device's memory than the rows do. ``picked`` [N, n] holds the ranks of the candidates that were
    last picked or drawn for all N rows of train at once, None before that.
    """

    name = CANDIDATES
    has_passes = True

    def __init__(self, pool: CandidatePool, data: WithCandidates, parts: TrainedParts) -> None:
        train, worker = parts.setup.spec.train, parts.worker
        self.pool = pool
        self.data = data
        self.parts = parts
        self.precision = train.precision
        self.seed = train.seed
        self.device = worker.device
        self.rank, self.world_size = worker.rank, worker.world_size
        self.max_rows = train.micro_batch
        self.picked: Tensor | None = None

    @property
    def sums(self) -> int:
        """The number of the sums of ``usage_sums``."""
        return self.pool.k + USAGE_SUMS

    def state(self) -> State:
        """The ranks that were last picked for all rows."""
        return {"picked": self.picked}

    def load_state(self, state: State) -> None:
        picked = state["picked"]
        self.picked = None if picked is None else picked.cpu()

    def is_active(self, plan: EpochPlan) -> bool:
        """Whether candidates have a weight."""
        return bool(plan.candidates)

    def start_epoch(self, plan: EpochPlan) -> None:
        """Draw for all rows of train if the method draws. Where the method picks once every few epochs and this is the
        start of one of them, pick for all rows of train."""
        if plan.position.step == 0 and self.scores_all(plan.position):
            self.picked = self.pick_for_all_rows(self.parts.model, plan)
        drawn = self.draw_for_all_rows(plan.position)
        self.picked = self.picked if drawn is None else drawn

    def passes(self, prepared: StepCandidates, plan: EpochPlan) -> Passes:
        """A pass on each batch of this worker's candidates of a step, which are picked first where they are picked in
        each step."""
        candidates = self.pick_for_step(self.parts.model, prepared, plan)
        assert candidates.usage is not None
        return Passes(candidates.batches, {CANDIDATES: candidates.usage})

    def run_pass(self, batch: CandidateBatch, rows: int, plan: EpochPlan) -> Tensor:
        """Passes on candidates run before those on the rows, the last of which synchronises the gradients of both
        between workers."""
        with self.parts.gradient_sync(last=False), explain_out_of_memory(len(batch.batch.rows)):
            loss = self.loss(self.parts.wrapped, batch, plan).sum()
            (loss * (self.world_size / rows)).backward()
        return loss.detach().double().reshape(1)

    def pass_sums(self, loss: Tensor, plan: EpochPlan) -> Sums:
        return {LOSS: loss, term_place(CANDIDATES): loss / plan.candidates}

    def entry(self, sums: list[float]) -> dict[str, Any] | None:
        """See ``usage_summary``."""
        return usage_summary(sums, self.pool.k) if any(sums) else None

    def line(self, entry: Mapping[str, Any]) -> str:
        """How many candidates were used, and their mean rank."""
        return f"{entry['used']:,} candidates, mean rank {entry['mean_rank']:.1f}"

    def cost(self, entry: Mapping[str, Any]) -> Cost:
        return Cost(augmented_rows=entry["used"])

    def scores_all(self, position: Position) -> bool:
        """Whether all candidates of train are scored when the epoch at ``position`` begins."""
        return isinstance(self.data, Minimax) and self.data.rescores(position.epoch)

    def pick_for_all_rows(self, model: nn.Module, plan: EpochPlan) -> Tensor:
        """[N, keep]: the ranks of the candidates picked for all N rows of train. Each distinct candidate goes through
        the student once; workers share the candidates, and all return the whole result."""
        assert isinstance(self.data, Minimax)
        pool, numbers = self.pool, np.arange(len(self.pool.rows), dtype=np.int64)
        share = (self.rank, self.world_size)
        batches = pool.batches(numbers, logits_only(plan.request), self.device, self.max_rows, *share)
        found = self._divergences(model, batches, len(numbers), plan)
        if self.world_size > 1:
            whole = torch.from_numpy(found).to(self.device)
            torch.distributed.all_reduce(whole)
            found = whole.cpu().numpy()
        rows = np.arange(len(pool.table), dtype=np.int64)
        return torch.from_numpy(most_divergent(found[pool.table], pool.all_ranks(rows), self.data.keep))

    def draw_for_all_rows(self, position: Position) -> Tensor | None:
        """[N, draw]: the ranks of the candidates that all N rows of train are trained with in the epoch at
        ``position``; None if the method does not draw. They depend on the student's seed, phase and epoch alone."""
        if not isinstance(self.data, Neighbours) or self.data.draw is None:
            return None
        rows = np.arange(len(self.pool.table), dtype=np.int64)
        epoch_seed = seed_of(self.seed, position.phase, position.epoch, DRAWS)
        return torch.from_numpy(drawn_at_random(self.pool.all_ranks(rows), self.data.draw, epoch_seed))

    def prepare(self, rows: Rows, plan: EpochPlan, fit: Callable[[Batch], Batch]) -> StepCandidates:
        """The candidates for a step on these rows of train, in host memory. A method that picks in each step gets
        candidates to be scored; any other gets the candidates to train on."""
        pool, picked, logits_request = self.pool, self.picked, logits_only(plan.request)
        if isinstance(self.data, Minimax) and self.data.every == "step":
            ranks = pool.all_ranks(rows)
            numbers = pool.table[rows][ranks >= 0]
            batches = list(pool.batches(numbers, logits_request, self.device, self.max_rows))
            return StepCandidates(scoring=CandidateScoring(rows, ranks, batches, fit))
        ranks = pool.all_ranks(rows) if picked is None else picked.numpy()[rows]
        chosen = pool.picked_batches(rows, ranks, logits_request, self.device, self.max_rows or len(rows), fit)
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
        request = logits_only(plan.request)
        chosen = self.pool.picked_batches(scoring.rows, picked, request, self.device, max_rows, scoring.fit)
        return StepCandidates(chosen, usage_sums(self.pool, scoring.rows, picked, divergences))

    def loss(self, model: nn.Module, candidates: CandidateBatch, plan: EpochPlan) -> Tensor:
        """[B]: the weighted divergence of each candidate, plan.candidates * share * d(T(x'), S(x')). The sum over a
        row's candidates is the weight times their mean divergence."""
        with autocast(self.device, self.precision):
            found = forward(model, candidates.batch.inputs)
        distance = self.distance(found, candidates.batch, plan)
        return plan.candidates * candidates.share * distance

    def distance(self, found: ForwardOutputs, batch: Batch, plan: EpochPlan) -> Tensor:
        """[B]: the divergence between the student's outputs for candidates and the teachers' for them."""
        outputs = self.pool.signal(batch, logits_only(plan.request))
        values = divergence(plan).distance(found.logits.float(), outputs["logits"])
        return self.parts.setup.task.kind.row_values(values, found.entries)

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
        training = model.training
        model.eval()
        with torch.inference_mode(), autocast(self.device, self.precision):
            for places, host_batch in batches:
                with TURN:
                    batch = host_batch.to(self.device)
                    outputs = forward(model, batch.inputs)
                    distances = self.distance(outputs, batch, plan)
                found[places] = distances.cpu().numpy()
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
