"""The training loop of a masked language model.

A step: batch -> tokens chosen and replaced -> encoder -> head at the chosen places -> mean negative log-likelihood ->
backward -> optimizer step. With a teacher, which reads the same batch, the head runs at all places, and the distances
of the two models' probabilities and last states are added (``MaskedDistillation``).

A training that was interrupted and resumed ends with the same bits, on a CPU with the same number of workers and
threads. Batches and masks do not depend on the number of workers.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed
from torch import Tensor, nn
from transformers import PreTrainedModel

from cluster.resources import Worker
from stages.checkpoint_file import OtherFormat, equal_on_all_workers
from stages.corpus.batches import Rows, epoch_batches, sorted_batches
from stages.corpus.prefetch import one_ahead
from stages.corpus.rowset import Rowset
from stages.models.masked.language_model import PlacePredictor, Prediction
from stages.models.masked.token_ids import TokenIds
from stages.models.predict import autocast
from stages.pretraining.distillation import MaskedTeacher, cosine_losses, soft_losses
from stages.pretraining.masking import MaskedBatch, masked_batch
from stages.pretraining.progress import (
    HeldOutScore,
    MaskedEpoch,
    MaskedProgress,
    State,
    TeacherLosses,
    load_progress,
    save_progress,
)
from stages.specs.pretraining import PretrainSpec
from stages.specs.seeds import seed_of
from stages.training.optimizer import learning_rate, make_optimizer

HELD_OUT_ROWS, HELD_OUT_TOKENS = 64, 8192
"""The most rows and padded tokens of a batch of held-out texts. The tokens that are predicted there depend on them."""

NoteEpoch = Callable[[MaskedEpoch, float], None]
"""Called by the first worker with each epoch that has ended, and the learning rate of its last step."""


@dataclass(frozen=True, slots=True)
class PretrainingSetup:
    """The inputs of a training: its spec, the tokenised texts to train on and those to measure on, the ids of special
    tokens, and the file of the checkpoint, which is written at most every ``checkpoint_seconds``. ``teacher`` is the
    model that teaches where the spec has ``distillation``."""

    spec: PretrainSpec
    texts: Rowset
    held_out: Rowset
    tokens: TokenIds
    checkpoint: Path
    checkpoint_seconds: float = 30.0
    clock: Callable[[], float] = time.monotonic
    note_epoch: NoteEpoch = lambda *_: None
    teacher: PreTrainedModel | None = None

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.spec.steps_of(len(self.texts))

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch that is not cut short by ``spec.steps``."""
        return -(-len(self.texts) // self.spec.batch_size)


def fit_masked_model(model: PreTrainedModel, setup: PretrainingSetup, worker: Worker) -> MaskedProgress:
    """Train ``model`` in place, from the checkpoint if there is one, to the last step. Raises ValueError when the loss
    of an epoch, or that on the held-out texts, is not finite."""
    training = MaskedTraining(model, setup, worker)
    training.run()
    return training.progress


class MaskedTraining:
    """The training of one masked language model on one worker."""

    def __init__(self, model: PreTrainedModel, setup: PretrainingSetup, worker: Worker) -> None:
        self.setup = setup
        self.worker = worker
        self.predictor = PlacePredictor(model)
        nn.Module.to(self.predictor, worker.device).train()
        self.model = model
        several = worker.world_size > 1
        self.parallel: nn.Module = (
            nn.parallel.DistributedDataParallel(self.predictor, forward_sync_buffers=False)
            if several
            else self.predictor
        )
        given = setup.teacher
        self.teacher = None if given is None else MaskedTeacher(given, worker.device, setup.spec.precision)
        taught = setup.spec.distillation
        # Of the losses that _loss_sums gives.
        self.weights = (1.0,) if taught is None else (taught.masked, taught.soft, taught.cosine)
        self.optimizer = make_optimizer(model, setup.spec)
        self.progress = MaskedProgress()
        self.saved_at = setup.clock()

    def run(self) -> None:
        """Train from the checkpoint, or from the start, to the last step."""
        setup, progress = self.setup, self._resume()
        if progress.before is None:
            progress.before = self.held_out_score()
            self.worker.note(_held_out_note(progress.before))
        while progress.epoch * setup.steps_per_epoch + progress.step < setup.steps:
            self._epoch()
            self._finish_epoch()
            self._checkpoint()

    def _resume(self) -> MaskedProgress:
        """The progress of the last checkpoint if there is a usable one, whose states the parts then have; else that of
        a training that starts."""
        reason = ""
        try:
            found = load_progress(self.setup.checkpoint)
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
        self.model.load_state_dict(states["model"])
        self.optimizer.load_state_dict(dict(states["optimizer"]))
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
        batches = epoch_batches(setup.texts.tokens.lengths, spec.batch_size, seed_of(spec.seed, progress.epoch))
        numbered = list(enumerate(batches))[first : setup.steps - before]
        total = torch.zeros(len(self.weights), dtype=torch.float64, device=worker.device)
        total += total.new_tensor([progress.loss_sum, *(progress.teacher_sums or [0.0] * (len(self.weights) - 1))])
        predicted, tokens, clock = progress.predicted, progress.tokens, setup.clock()
        with closing(one_ahead(self._step_batch, numbered)) as prepared:
            for (step, rows), batch in zip(numbered, prepared, strict=True):
                factor = learning_rate(before + step, setup.steps, spec.warmup)
                total += self._step(batch, step, factor)
                predicted, tokens = predicted + batch.predicted, tokens + batch.tokens
                worker.advance(len(rows) if worker.rank == 0 else 0)
                now = setup.clock()
                progress.seconds += now - clock
                clock = now
                progress.step = step + 1
                if now - self.saved_at > setup.checkpoint_seconds and step != numbered[-1][0]:
                    progress.keep_sums(total.tolist(), predicted, tokens)
                    self._checkpoint()
                    clock = setup.clock()  # time spent on a checkpoint is not training time
        progress.keep_sums(total.tolist(), predicted, tokens)
        progress.seconds += setup.clock() - clock

    def _step_batch(self, numbered: tuple[int, Rows]) -> MaskedBatch:
        """This worker's part of a step of the epoch, in host memory. Runs in the prefetching thread."""
        step, rows = numbered
        setup, worker = self.setup, self.worker
        seed = seed_of(setup.spec.seed, self.progress.epoch, step)
        batch = masked_batch(setup.texts, rows, setup.spec.masking, setup.tokens, seed, worker.rank, worker.world_size)
        return batch.pinned() if worker.device.startswith("cuda") else batch

    def _step(self, batch: MaskedBatch, step: int, factor: float) -> Tensor:
        """One optimizer step at ``factor`` times the peak learning rate. Returns the sums [terms] of the losses over
        the tokens of all workers, before they are weighted, on the device."""
        setup, worker = self.setup, self.worker
        torch.manual_seed(seed_of(setup.spec.seed, self.progress.epoch, step, worker.rank))
        with explain_batch_size(len(batch.inputs["input_ids"]), setup.spec.batch_size):
            sums = self._loss_sums(self.parallel, batch.to(worker.device))
            counts = (batch.predicted, batch.tokens, batch.tokens)
            # DDP averages the gradients of the workers; that of the batch is their sum over the tokens of all.
            scales = [weight * worker.world_size / max(1, n) for weight, n in zip(self.weights, counts, strict=False)]
            first, *others = (value * scale for value, scale in zip(sums, scales, strict=True))
            sum(others, first).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), setup.spec.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = setup.spec.learning_rate * factor
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.stack([value.detach().double() for value in sums])
        if worker.world_size > 1:
            torch.distributed.all_reduce(total)
        return total

    def _loss_sums(self, predictor: nn.Module, batch: MaskedBatch) -> Sequence[Tensor]:
        """The sum of the negative log-likelihoods of the tokens that this worker predicts, and with a teacher the sums
        of the two distances from it over all tokens of this worker, in float32."""
        distillation = self.setup.spec.distillation
        places = batch.places if self.teacher is None else batch.attended
        with autocast(self.worker.device, self.setup.spec.precision):
            found: Prediction = predictor(batch.inputs, places)
        if self.teacher is None or distillation is None:
            return [_masked_loss_sum(found.logits, batch.targets)]
        taught = self.teacher(batch.inputs, places)
        predicted = torch.searchsorted(places, batch.places)  # among the attended places, which rise as these do
        soft = soft_losses(found.logits, taught.logits, distillation.temperature).sum()
        cosine = cosine_losses(found.states, taught.states).sum() if distillation.cosine else torch.zeros_like(soft)
        return [_masked_loss_sum(found.logits[predicted], batch.targets), soft, cosine]

    # --- the end of an epoch ---

    def _finish_epoch(self) -> None:
        """Measure the model on the held-out texts, and add the epoch to the history. Raises ValueError where it
        diverges."""
        setup, progress = self.setup, self.progress
        mean, score = progress.loss_sum / max(1, progress.predicted), self.held_out_score()
        teacher = self._teacher_losses()
        number = progress.epoch + 1
        # The weights after the last step enter no loss of this epoch, so the held-out loss is checked, too.
        if not all(map(math.isfinite, (mean, score.loss, *progress.teacher_sums))):
            raise ValueError(
                f"pretraining diverges in epoch {number} (loss {mean}); choose a lower learning_rate than "
                f"{setup.spec.learning_rate}"
            )
        steps = min(setup.steps, number * setup.steps_per_epoch)
        epoch = MaskedEpoch(number, steps, mean, score, progress.seconds, teacher)
        progress.history.append(epoch)
        progress.begin_epoch(number)
        if self.worker.rank == 0:
            factor = learning_rate(steps - 1, setup.steps, setup.spec.warmup)
            setup.note_epoch(epoch, setup.spec.learning_rate * factor)
        done = f"epoch {number}/{-(-setup.steps // setup.steps_per_epoch)}"
        distances = "" if teacher is None else f"  soft targets {teacher.soft:.4f}"
        distances += "" if teacher is None or teacher.cosine is None else f"  cosine {teacher.cosine:.4f}"
        self.worker.note(f"{done}  loss {mean:.4f}{distances}  {_held_out_note(score)}")

    def _teacher_losses(self) -> TeacherLosses | None:
        """The mean distances from the teacher in the epoch under way; None without one."""
        distillation, progress = self.setup.spec.distillation, self.progress
        if distillation is None:
            return None
        soft, cosine = (value / max(1, progress.tokens) for value in progress.teacher_sums)
        return TeacherLosses(soft, cosine if distillation.cosine else None)

    def held_out_score(self) -> HeldOutScore:
        """The score of the model on the held-out texts, whose chosen tokens are the same each time. Workers share the
        batches; all return the whole score. The model is left in train mode."""
        worker, setup = self.worker, self.setup
        sums = torch.zeros(3, dtype=torch.float64, device=worker.device)
        batches = sorted_batches(setup.held_out.tokens.lengths, HELD_OUT_TOKENS, HELD_OUT_ROWS)
        self.predictor.eval()
        with torch.inference_mode():
            for number, rows in list(enumerate(batches))[worker.rank :: worker.world_size]:
                seed = seed_of(setup.spec.seed, number, HELD_OUT_ROWS, HELD_OUT_TOKENS, 1)
                batch = masked_batch(setup.held_out, rows, setup.spec.masking, setup.tokens, seed).to(worker.device)
                with autocast(worker.device, setup.spec.precision):
                    logits_MV = self.predictor(batch.inputs, batch.places).logits
                losses = _masked_loss_sum(logits_MV, batch.targets)
                right = (logits_MV.argmax(1) == batch.targets).sum()
                sums += torch.stack([losses.double(), right.double(), sums.new_tensor(float(batch.predicted))])
        self.predictor.train()
        if worker.world_size > 1:
            torch.distributed.all_reduce(sums)
        loss, right_count, predicted = sums.tolist()
        if not predicted:
            raise ValueError("the held-out texts consist of special tokens alone; give other texts")
        return HeldOutScore(loss / predicted, 100 * right_count / predicted)

    def _checkpoint(self) -> None:
        """Save a checkpoint, if the last one is older than ``checkpoint_seconds``. All workers have the same weights;
        the first one writes."""
        if self.setup.clock() - self.saved_at <= self.setup.checkpoint_seconds:
            return
        if self.worker.rank == 0:
            states: dict[str, State] = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
            save_progress(self.setup.checkpoint, self.progress, states)
        self.saved_at = self.setup.clock()


def _masked_loss_sum(logits_MV: Tensor, targets_M: Tensor) -> Tensor:
    """The sum of the negative log-likelihoods of these tokens, in float32."""
    return nn.functional.cross_entropy(logits_MV.float(), targets_M, reduction="sum")


def _held_out_note(score: HeldOutScore) -> str:
    return f"held-out loss {score.loss:.4f}  accuracy {score.accuracy:.1f}"


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
