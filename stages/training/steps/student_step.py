"""One step of a student: forward and backward passes on the rows of a batch and on what participants add, then the
update of the weights."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from stages.corpus.rowset import Batch
from stages.device_turn import TURN
from stages.specs.schedule import EpochPlan
from stages.training.objective.trained_parts import TrainedParts
from stages.training.optimizer import explain_out_of_memory
from stages.training.participants.protocol import Participant, View
from stages.training.setup import StepWork
from stages.training.sums import ATTENTION, LOSS, SumLayout


class StudentStep:
    """The steps of one training, one kernel after another. Sums are in the order of ``layout``. ``rate_on`` is the
    device that the optimizer keeps the learning rate on, None for a number on the host."""

    rate_on: str | None = None
    keeps_gradients = False
    """Whether the gradients of a step are set to zero after it instead of dropped."""

    def __init__(self, parts: TrainedParts, participants: Sequence[Participant], layout: SumLayout) -> None:
        self.parts = parts
        self.participants = participants
        self.reader = next((one for one in participants if one.changes_inputs), Participant())
        self.worker = parts.worker
        self.layout = layout

    def running(self) -> AbstractContextManager[None]:
        """A context for the steps of an epoch."""
        return nullcontext()

    def fitted(self, batch: Batch) -> Batch:
        """The batch as a step reads it, in host memory. The prefetching thread calls this."""
        return batch

    def end_epoch(self) -> str:
        """What the log should have of the epoch's steps; '' for nothing."""
        return ""

    def run(self, work: StepWork, rows: int, plan: EpochPlan, optimizer: torch.optim.Optimizer, seed: int) -> Tensor:
        """One optimizer step on a global batch of ``rows`` rows, with random numbers that follow from ``seed``. Returns
        the sums over the rows of all workers, on the device."""
        with TURN:
            torch.manual_seed(seed)
            return self._run(work, rows, plan, optimizer)

    def _run(self, work: StepWork, rows: int, plan: EpochPlan, optimizer: torch.optim.Optimizer) -> Tensor:
        total = self.sums()

        def run_pass(participant: Participant, _number: int, batch: Any) -> Tensor:
            return participant.run_pass(batch.to(self.worker.device), rows, plan)

        self.add_passes(total, work, plan, run_pass)
        prepared = work.prepared.get(self.reader.name)
        for number, host_batch in enumerate(work.batches, 1):
            batch, last = host_batch.to(self.worker.device), number == len(work.batches)
            for view in self.reader.views(batch, prepared, plan):
                total += self.row_pass(batch, view, rows, work.weight, plan, last and view.last)
        collected = self.reader.collect()
        if collected is not None:
            total[self.layout.place(self.reader.name)] += collected * work.weight
        self.update(optimizer)
        if self.worker.world_size > 1:
            torch.distributed.all_reduce(total)
        return total

    def joining(self, work: StepWork) -> Sequence[Participant]:
        """The participants whose passes join a step."""
        return [one for one in self.participants if one.name in work.prepared and one.has_passes]

    def add_passes(
        self, total: Tensor, work: StepWork, plan: EpochPlan, run_pass: Callable[[Participant, int, Any], Tensor]
    ) -> None:
        """Run the passes that join a step, and add their sums to ``total``. ``run_pass`` runs the pass of a participant
        with a number, from 1, on a batch in host memory, and returns the sum [1] of its losses."""
        for participant in self.joining(work):
            with TURN:
                passes = participant.passes(work.prepared[participant.name], plan)
            loss = torch.zeros(1, dtype=torch.float64, device=self.worker.device)
            for number, batch in enumerate(passes.batches, 1):
                loss += run_pass(participant, number, batch)
            for place, sums in participant.pass_sums(loss, plan).items():
                total[self.layout.place(place)] += sums
            for place, values in passes.sums.items():
                host = torch.from_numpy(values)
                host = host.pin_memory() if self.worker.device.startswith("cuda") else host  # a copy that does not wait
                total[self.layout.place(place)] += host.to(self.worker.device, non_blocking=True)

    def close(self) -> None:
        """Give back what the steps so far have kept on the device beside the weights."""

    def sums(self) -> Tensor:
        """Sums over no rows, on the device."""
        return torch.zeros(self.layout.size, dtype=torch.float64, device=self.worker.device)

    def update(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients, step, and drop them or set them to zero."""
        self.parts.average_projection_gradients()
        nn.utils.clip_grad_norm_(self.parts.all.parameters(), self.parts.setup.spec.train.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=not self.keeps_gradients)

    def row_pass(self, batch: Batch, view: View, rows: int, weight: float, plan: EpochPlan, last: bool) -> Tensor:
        """Forward and backward pass on a view of the rows of ``batch``. ``weight`` is the factor of the worker's
        losses. Returns their part of the sums. Workers synchronise their gradients in the ``last`` pass of a step."""
        layout, world_size, share = self.layout, self.worker.world_size, weight * view.share
        counted = weight if view.counts_in_full else share
        total = self.sums()
        with self.parts.gradient_sync(last), explain_out_of_memory(len(batch.rows)):
            read, other = replace(batch, inputs=dict(view.inputs)), view.other
            if other is None:
                found = self.parts.loss(read, rows, plan)
            else:
                found = self.parts.other_loss(read, other.terms, other.logits, other.name)
            if view.leaf is not None:
                first = found.terms[plan.terms[0].name].sum()
                (view.gradient,) = torch.autograd.grad(first, view.leaf, retain_graph=True)
            loss = found.loss.sum() * share
            # DDP averages the gradients of the workers; the gradient of the global batch is their sum / rows.
            (loss * (world_size / rows)).backward()
        view.loss, view.logits = found.loss.detach(), found.logits.detach()
        total[layout.place(LOSS)] += loss.detach()
        for name, term_B in found.terms.items():
            total[layout.place_of_term(name)] += term_B.detach().sum() * counted
        if found.attention is not None:
            total[layout.place(ATTENTION)] += found.attention.sum(0) * counted
        return total
