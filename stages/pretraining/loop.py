"""The training loop of a pretraining, whatever its objective.

A step: batch -> losses of the objective -> weighted sum of their means over the batch of all workers -> backward ->
optimizer step. A training that was interrupted and resumed ends with the same bits, on a CPU with the same number of
workers and threads. Batches do not depend on the number of workers.
"""

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from transformers import PreTrainedModel

from cluster.resources import Worker
from stages.checkpoint_file import OtherFormat, equal_on_all_workers
from stages.corpus.batches import Rows, epoch_batches
from stages.corpus.prefetch import one_ahead
from stages.device_turn import TURN
from stages.pretraining.masked_objective import MaskedObjective, MaskedSetup
from stages.pretraining.objective import Objective, PretrainingSetup, StepBatch
from stages.pretraining.progress import (
    HeldOutScore,
    PretrainingEpoch,
    PretrainingProgress,
    State,
    load_progress,
    save_progress,
)
from stages.specs.seeds import seed_of
from stages.training.optimizer import learning_rate, make_optimizer

OPTIMIZER = "optimizer"
"""The name of the optimizer among the parts of a checkpoint."""


def fit_masked_model(model: PreTrainedModel, setup: MaskedSetup, worker: Worker) -> PretrainingProgress:
    """Train ``model`` in place as a masked language model, from the checkpoint if there is one, to the last step.
    Raises ValueError when the loss of an epoch, or that on the held-out texts, is not finite."""
    training = MaskedTraining(model, setup, worker)
    training.run()
    return training.progress


class Pretraining:
    """The training of one model by one objective on one worker."""

    def __init__(self, objective: Objective[Any], setup: PretrainingSetup, worker: Worker) -> None:
        self.objective = objective
        self.setup = setup
        self.worker = worker
        self.parallel: nn.Module = (
            nn.parallel.DistributedDataParallel(objective.module, forward_sync_buffers=False)
            if worker.world_size > 1
            else objective.module
        )
        self.optimizer = make_optimizer(objective.trained, setup.spec)
        self.progress = PretrainingProgress()
        self.saved_at = setup.clock()

    def run(self) -> None:
        """Train from the checkpoint, or from the start, to the last step. Raises ValueError when the loss of an epoch,
        or that on the held-out texts, is not finite."""
        setup, progress = self.setup, self._resume()
        if progress.before is None:
            progress.before = self.held_out_score()
            self.worker.note(progress.before.describe())
        while progress.epoch * setup.steps_per_epoch + progress.step < setup.steps:
            self._epoch()
            self._finish_epoch()
            self._checkpoint()

    def held_out_score(self) -> HeldOutScore:
        """The score of the model on the held-out texts: see ``Objective.held_out_score``."""
        return self.objective.held_out_score()

    def _resume(self) -> PretrainingProgress:
        """The progress of the last checkpoint if there is a usable one, whose states the parts then have; else that of
        a training that starts."""
        reason = ""
        try:
            found = load_progress(self.setup.checkpoint, (*self.objective.parts, OPTIMIZER))
        except OtherFormat as error:
            found, reason = None, f"{self.setup.checkpoint.name} is {error}"
        position = None if found is None else (found[0].epoch, found[0].step)
        if not equal_on_all_workers(position, 2, self.worker.world_size, self.worker.device):
            found, reason = None, "the workers found different checkpoints"
        if found is None:
            if reason:
                self.worker.note(f"starts over: {reason}")
            return self.progress
        self.progress, states = found
        for name, part in self.objective.parts.items():
            part.load_state_dict(states[name])
        self.optimizer.load_state_dict(dict(states[OPTIMIZER]))
        progress, rows = self.progress, len(self.setup.texts)
        self.worker.note(f"goes on from epoch {progress.epoch + 1}, step {progress.step}")
        done = progress.epoch * rows + min(rows, progress.step * self.setup.spec.batch_size)
        self.worker.restore(done if self.worker.rank == 0 else 0)
        return progress

    # --- an epoch ---

    def _epoch(self) -> None:
        """Run the steps of the epoch under way, from ``progress.step`` on."""
        setup, progress, worker = self.setup, self.progress, self.worker
        spec, first = setup.spec, progress.step
        before = progress.epoch * setup.steps_per_epoch
        batches = epoch_batches(setup.texts.costs, spec.batch_size, seed_of(spec.seed, progress.epoch))
        numbered = list(enumerate(batches))[first : setup.steps - before]
        losses = len(self.objective.weights)
        total = torch.zeros(losses, dtype=torch.float64, device=worker.device)
        total += total.new_tensor(progress.sums or [0.0] * losses)
        counts, clock = progress.counts or [0] * losses, setup.clock()
        with closing(one_ahead(self._step_batch, numbered)) as prepared:
            for (step, rows), batch in zip(numbered, prepared, strict=True):
                factor = learning_rate(before + step, setup.steps, spec.warmup)
                total += self._step(batch, step, factor)
                counts = [count + more for count, more in zip(counts, self.objective.counts(batch), strict=True)]
                worker.advance(len(rows) if worker.rank == 0 else 0)
                now = setup.clock()
                progress.seconds += now - clock
                clock = now
                progress.step = step + 1
                if now - self.saved_at > setup.checkpoint_seconds and step != numbered[-1][0]:
                    progress.sums, progress.counts = total.tolist(), counts
                    self._checkpoint()
                    clock = setup.clock()  # time spent on a checkpoint is not training time
        progress.sums, progress.counts = total.tolist(), counts
        progress.seconds += setup.clock() - clock

    def _step_batch(self, numbered: tuple[int, Rows]) -> StepBatch:
        """This worker's part of a step of the epoch, in host memory. Runs in the prefetching thread."""
        step, rows = numbered
        batch: StepBatch = self.objective.step_batch(rows, self.progress.epoch, step)
        return batch.pinned() if self.worker.device.startswith("cuda") else batch

    def _step(self, batch: StepBatch, step: int, factor: float) -> Tensor:
        """One optimizer step at ``factor`` times the peak learning rate. Returns the sums [losses] over the items of
        all workers, before they are weighted, on the device."""
        setup, worker, objective = self.setup, self.worker, self.objective
        with TURN:
            torch.manual_seed(seed_of(setup.spec.seed, self.progress.epoch, step, worker.rank))
            with explain_batch_size(batch.rows, setup.spec.batch_size):
                sums = objective.loss_sums(self.parallel, batch.to(worker.device), self.progress.epoch)
                # DDP averages the gradients of the workers; that of the batch is their sum over the items of all.
                scales = [
                    weight * worker.world_size / max(1, count)
                    for weight, count in zip(objective.weights, objective.counts(batch), strict=True)
                ]
                first, *others = (value * scale for value, scale in zip(sums, scales, strict=True))
                sum(others, first).backward()
            nn.utils.clip_grad_norm_(objective.trained.parameters(), setup.spec.max_grad_norm)
            for group in self.optimizer.param_groups:
                group["lr"] = setup.spec.learning_rate * factor
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            total = torch.stack([value.detach().double() for value in sums])
            if worker.world_size > 1:
                torch.distributed.all_reduce(total)
            return total

    # --- the end of an epoch ---

    def _finish_epoch(self) -> None:
        """Measure the model on the held-out texts, and add the epoch to the history. Raises ValueError where it
        diverges."""
        setup, progress = self.setup, self.progress
        means = [value / max(1, count) for value, count in zip(progress.sums, progress.counts, strict=True)]
        mean, score = means[0], self.held_out_score()
        teacher = self.objective.teacher_losses(means[1:])
        number = progress.epoch + 1
        # The weights after the last step enter no loss of this epoch, so the held-out loss is checked, too.
        if not all(map(math.isfinite, (*means, score.loss))):
            raise ValueError(
                f"pretraining diverges in epoch {number} (loss {mean}); choose a lower learning_rate than "
                f"{setup.spec.learning_rate}"
            )
        steps = min(setup.steps, number * setup.steps_per_epoch)
        epoch = PretrainingEpoch(number, steps, mean, score, progress.seconds, teacher)
        progress.history.append(epoch)
        progress.begin_epoch(number)
        if self.worker.rank == 0:
            factor = learning_rate(steps - 1, setup.steps, setup.spec.warmup)
            setup.note_epoch(epoch, setup.spec.learning_rate * factor)
        done = f"epoch {number}/{-(-setup.steps // setup.steps_per_epoch)}"
        distances = "" if teacher is None else f"  {teacher.describe()}"
        self.worker.note(f"{done}  loss {mean:.4f}{distances}  {score.describe()}")

    def _checkpoint(self) -> None:
        """Save a checkpoint, if the last one is older than ``checkpoint_seconds``. All workers have the same weights;
        the first one writes."""
        if self.setup.clock() - self.saved_at <= self.setup.checkpoint_seconds:
            return
        if self.worker.rank == 0:
            states: dict[str, State] = {name: part.state_dict() for name, part in self.objective.parts.items()}
            save_progress(self.setup.checkpoint, self.progress, {**states, OPTIMIZER: self.optimizer.state_dict()})
        self.saved_at = self.setup.clock()


class MaskedTraining(Pretraining):
    """The training of one masked language model on one worker."""

    def __init__(self, model: PreTrainedModel, setup: MaskedSetup, worker: Worker) -> None:
        super().__init__(MaskedObjective(model, setup, worker), setup, worker)
        self.model = model


@contextmanager
def explain_batch_size(rows: int, batch_size: int) -> Iterator[None]:
    """Turn an out-of-memory error of a pass over so many rows into a ValueError that names the setting which needs less
    memory. With one row nothing can be reduced: the error passes unchanged."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        if rows == 1:
            raise
        raise ValueError(
            f"pretrain.batch_size: {batch_size}, but a pass over {rows} rows does not fit in the GPU's memory; give a "
            f"smaller one, or more workers (resources.pretrain.workers)"
        ) from error
