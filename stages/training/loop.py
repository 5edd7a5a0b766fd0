"""The training loop: one for teachers and students alike.

batch -> student forward -> signal -> named losses -> weights from the schedule -> step. What a batch
holds, how it is shuffled and which dropout masks it sees follow from (seed, phase, epoch, step, rank)
alone, so a run that was cut goes on with the same bits, on a CPU with equal workers and threads.

The next step's batches, and what a store says about them, are made in a thread of their own while the
present step computes. No step waits for the device: the loss is looked at when an epoch ends.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from stages.corpus.batches import Rows, epoch_batches, parts, share_of
from stages.corpus.prefetch import one_ahead
from stages.corpus.rowset import Batch, Rowset
from stages.evaluation.predictions import Logits
from stages.evaluation.scoring import scores
from stages.models.forward import forward, pool, width
from stages.models.predict import autocast, predict
from stages.specs.layer_map import Group, groups_at
from stages.specs.layers import NoLayers
from stages.specs.schedule import Asked, Phase, Position, Weights, asked, learning_rate, phases, weights
from stages.specs.seeds import seed_of
from stages.specs.student import DistilSpec
from stages.specs.tasks import Task
from stages.training.candidates import SUMS, Pool, counted
from stages.training.checkpoint import Epoch, Progress, load, save
from stages.training.layer_losses import Matcher
from stages.training.losses import TERMS, terms_of, weighed
from stages.training.minimax import Augmentation, Prepared
from stages.training.optimizer import make_optimizer, memory_named
from stages.training.relations import Workers
from stages.training.signal import Signal
from stages.training.tensorboard import Draw, Point, Sheet, at_the_end, points


class Place(Protocol):
    """What the loop needs of the worker it runs in (see ``cluster.resources.Worker``)."""

    @property
    def rank(self) -> int: ...
    @property
    def world_size(self) -> int: ...
    @property
    def device(self) -> str: ...
    def advance(self, amount: float) -> None: ...
    def note(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Lesson:
    """All that a training needs: what to learn from, what to be selected on, where to keep checkpoints.
    ``teacher_width`` is that of the teacher's layers, where some are followed; ``pool`` holds candidates, where the
    method asks for them. The first worker gives the model of each epoch, and the epoch's number, to ``keep``, and what
    there is to draw of it to ``draw``."""

    spec: DistilSpec
    task: Task
    train: Rowset
    select: Rowset
    signal: Signal
    checkpoint: Path
    checkpoint_seconds: float = 30.0
    clock: Callable[[], float] = time.monotonic
    teacher_width: int = 0
    pool: Pool | None = None
    keep: Callable[[nn.Module, int], None] | None = None
    draw: Draw | None = None


NOTHING = Prepared()


@dataclass(frozen=True, slots=True)
class Work:
    """A worker's part of a step: its rows as batches of at most ``micro_batch``, what their losses are multiplied
    with, and the candidates beside them."""

    batches: Sequence[Batch]
    weight: float
    beside: Prepared = NOTHING


@dataclass(frozen=True, slots=True)
class Moment:
    """What holds in an epoch: what the losses weigh, what teachers are asked, which layers follow which."""

    position: Position
    weighing: Weights
    asked: Asked
    groups: Sequence[Group]


def fit(model: nn.Module, lesson: Lesson, place: Place) -> Progress:
    """Train ``model`` in place through every phase and epoch. It ends with its last weights; the best epoch's
    are in the result. Raises ValueError when the loss is not finite."""
    training = Training(model, lesson, place)
    training.run()
    return training.progress


class Training:
    """One student while it is trained."""

    def __init__(self, model: nn.Module, lesson: Lesson, place: Place) -> None:
        settings = lesson.spec.train
        self.model = model.to(place.device).train()
        self.lesson = lesson
        self.place = place
        self.structure = lesson.spec.method.structure
        torch.manual_seed(seed_of(settings.seed))
        matcher = Matcher(self.structure, width(model), lesson.teacher_width, lesson.task.outputs)
        self.matcher = matcher.to(place.device)
        self.whole = nn.ModuleDict({"student": model, "matcher": self.matcher})
        distributed = place.world_size > 1
        # DDP overlaps the reduction of gradients with the backward pass.
        self.parallel = nn.parallel.DistributedDataParallel(model, forward_sync_buffers=False) if distributed else None
        wrapped: nn.Module = self.parallel or model
        self.wrapped = cast(nn.Module, torch.compile(wrapped, dynamic=True)) if settings.compile else wrapped
        self.augmentation = self._augmentation()
        self.plan = phases(lesson.spec.method.training, lesson.spec.train.epochs)
        self.draw = lesson.draw if place.rank == 0 else None
        self.progress = Progress()
        self.saved_at = lesson.clock()

    def _augmentation(self) -> Augmentation | None:
        lesson = self.lesson
        if lesson.pool is None:
            return None
        train = lesson.spec.train
        return Augmentation(lesson.pool, lesson.spec.method, train.precision, self.place.device, train.micro_batch)

    def run(self) -> None:
        optimizer_state = self._resume()
        for number in range(self.progress.position.phase, len(self.plan)):
            if number > 0 and self.progress.position == Position(number):
                # The second phase goes on from the best epoch of the first (Jafari et al. 2021, section 4).
                self.model.load_state_dict(self.progress.best_weights)
            optimizer = make_optimizer(self.whole, self.lesson.spec.train)
            if optimizer_state:
                optimizer.load_state_dict(optimizer_state)
                optimizer_state = {}
            phase = self.plan[number]
            while self.progress.position.phase == number:
                batches = self._epoch(optimizer, phase)
                self._finish_epoch(phase, batches)
                self._checkpoint(optimizer)

    def _resume(self) -> dict[str, Any]:
        """Take up the last checkpoint, if there is one; return the optimizer's state."""
        found = load(self.lesson.checkpoint, self.place.device)
        if found is None:
            return {}
        self.progress, weights_kept, optimizer_state = found
        self.whole.load_state_dict(weights_kept)
        self.place.note(f"goes on from epoch {len(self.progress.history) + 1}, step {self.progress.position.step}")
        self.place.advance(self._rows_done() if self.place.rank == 0 else 0)
        return optimizer_state

    def _rows_done(self) -> int:
        """Rows that earlier sittings trained on, for the live view."""
        position, settings = self.progress.position, self.lesson.spec.train
        return len(self.progress.history) * len(self.lesson.train) + position.step * settings.batch_size

    def _epoch(self, optimizer: torch.optim.Optimizer, phase: Phase) -> Sequence[Rows]:
        """The steps of one epoch from ``progress.position`` on. Returns all its batches."""
        lesson, place, progress = self.lesson, self.place, self.progress
        settings, start = lesson.spec.train, progress.position
        seed = seed_of(settings.seed, start.phase, start.epoch)
        batches = epoch_batches(lesson.train.tokens.lengths, settings.batch_size, seed)
        moment = self._moment(start, phase)
        clock = lesson.clock()
        self._look_at_candidates(moment)
        total = torch.tensor(progress.sums, dtype=torch.float64, device=place.device)
        sheet = Sheet(len(batches), progress.marks) if self.draw else None
        with closing(one_ahead(lambda rows: self._work(rows, moment), batches[start.step :])) as works:
            for step, work in enumerate(works, start.step):
                factor = learning_rate(start.epoch * len(batches) + step, phase.epochs * len(batches), settings.warmup)
                total += self._step(work, len(batches[step]), step, moment, optimizer, factor)
                place.advance(len(batches[step]) if place.rank == 0 else 0)
                now = lesson.clock()
                progress.seconds += now - clock
                clock = now
                if sheet is not None:
                    sheet.look(step + 1, progress.seconds, total)
                if now - self.saved_at > lesson.checkpoint_seconds and step + 1 < len(batches):
                    progress.position = replace(start, step=step + 1)
                    progress.take(total)
                    progress.marks = sheet.marks() if sheet else []
                    self._checkpoint(optimizer)
                    # Time spent on a checkpoint is not training time.
                    clock = lesson.clock()
        progress.position = replace(start, step=0)
        progress.take(total)
        progress.marks = sheet.marks() if sheet else []
        progress.seconds += lesson.clock() - clock
        return batches

    def _look_at_candidates(self, moment: Moment) -> None:
        """Make ready to count them, and pick for all rows at once where that is due."""
        augmentation, progress, place = self.augmentation, self.progress, self.place
        if augmentation is None:
            return
        progress.tally = progress.tally or [0.0] * (augmentation.pool.k + SUMS)
        due = moment.position.step == 0 and augmentation.scores_all(moment.position)
        if moment.weighing.candidates and due:
            progress.picked = augmentation.pick_all(
                self.model, moment.weighing, moment.asked, place.rank, place.world_size
            )

    def _moment(self, position: Position, phase: Phase) -> Moment:
        spec, signal = self.lesson.spec, self.lesson.signal
        weighing = weights(spec.method, position, phase.epochs, self.lesson.task.regression)
        wanted = asked(spec.method, weighing, position, phase.epochs, signal.teachers, spec.train.seed)
        groups = groups_at(spec.method.structure, spec.train.seed, position.phase, position.epoch)
        return Moment(position, weighing, wanted, groups)

    def _work(self, rows: Rows, moment: Moment) -> Work:
        """This worker's part of the global batch ``rows``, in host memory. Runs in the prefetching thread."""
        wanted = moment.asked
        share, train = share_of(rows, self.place.rank, self.place.world_size), self.lesson.train
        most = self.lesson.spec.train.micro_batch or len(share.rows)
        batches = []
        for start, end in parts(len(share.rows), most):
            chosen = share.rows[start:end]
            read = self.lesson.signal.read(chosen, wanted) if wanted else {}
            batch = replace(train.batch(chosen, "cpu"), read=read)
            batches.append(batch.pinned() if self.place.device.startswith("cuda") else batch)
        if self.augmentation is None or not (moment.weighing.candidates and share.weight):
            return Work(batches, share.weight)
        return Work(batches, share.weight, self.augmentation.prepare(share.rows, wanted, self.progress.picked))

    def _step(
        self,
        work: Work,
        rows: int,
        step: int,
        moment: Moment,
        optimizer: torch.optim.Optimizer,
        factor: float,
    ) -> Tensor:
        """One optimizer step on a global batch of ``rows``. Returns the sums of all its rows, on the device: the loss,
        its terms, and what is counted of candidates."""
        settings, place, position = self.lesson.spec.train, self.place, moment.position
        torch.manual_seed(seed_of(settings.seed, position.phase, position.epoch, step, place.rank))
        total = torch.zeros(len(self.progress.sums), dtype=torch.float64, device=place.device)
        total += self._candidates(work.beside, rows, moment)
        for number, batch in enumerate(work.batches, 1):
            with self._gradients_shared(number == len(work.batches)), memory_named(len(batch.rows)):
                loss_B, terms = self._loss(batch.to(place.device), rows, moment)
                loss = loss_B.sum() * work.weight
                # DDP averages the workers' gradients; what is meant is their sum over the rows of the global batch.
                (loss * (place.world_size / rows)).backward()
            total[0] += loss.detach()
            for name, term_B in terms.items():
                total[1 + TERMS.index(name)] += term_B.detach().sum() * work.weight
        self._average_projections()
        nn.utils.clip_grad_norm_(self.whole.parameters(), settings.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * factor
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if place.world_size > 1:
            torch.distributed.all_reduce(total)
        return total

    def _candidates(self, ready: Prepared, rows: int, moment: Moment) -> Tensor:
        """Their part of a step: gradients, and what it adds to the total. It comes before that of the rows, whose last
        pass shares the gradients of both."""
        place, augmentation = self.place, self.augmentation
        found = torch.zeros(len(self.progress.sums), dtype=torch.float64, device=place.device)
        if augmentation is None or ready is NOTHING:
            return found
        ready = augmentation.decide(self.model, ready, moment.weighing, moment.asked)
        for extra in ready.extras:
            with self._gradients_shared(last=False), memory_named(len(extra.batch.rows)):
                loss = augmentation.loss(self.wrapped, extra.to(place.device), moment.weighing, moment.asked).sum()
                (loss * (place.world_size / rows)).backward()
            found[0] += loss.detach()
        assert ready.tally is not None
        found[1 + TERMS.index("candidates")] = found[0] / moment.weighing.candidates
        found[1 + len(TERMS) :] += torch.from_numpy(ready.tally).to(place.device)
        return found

    def _loss(self, batch: Batch, rows: int, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """[B], of rows that this worker holds of a global batch of ``rows``, and what it is the weighted sum of, [B] by
        name. Hidden states are asked for where layers are in force, only."""
        lesson, weighing = self.lesson, moment.weighing
        with autocast(self.place.device, lesson.spec.train.precision):
            logits, hidden = forward(self.wrapped, batch.inputs, hidden=bool(weighing.layers))
        said = lesson.signal(batch, moment.asked) if moment.asked else {}
        terms = terms_of(logits.float(), batch.labels, said, lesson.spec.method, weighing, lesson.task.regression)
        loss_B = weighed(terms, weighing)
        if not weighing.layers:
            return loss_B, terms
        error_B = self._layer_error(hidden, batch, said, rows, moment.groups)
        return loss_B + weighing.layers * error_B, terms | {"layers": error_B}

    def _layer_error(
        self, hidden: Sequence[Tensor], batch: Batch, said: Mapping[str, Tensor], rows: int, groups: Sequence[Group]
    ) -> Tensor:
        assert not isinstance(self.structure, NoLayers)
        mask, pooling = batch.inputs["attention_mask"], self.structure.pooling
        states = {layer: pool(hidden[layer], mask, pooling) for layer in self.matcher.student_layers}
        workers = Workers(self.place.rank, self.place.world_size, rows)
        error: Tensor = self.matcher(states, said, groups, workers)
        return error

    def _gradients_shared(self, last: bool) -> AbstractContextManager[None]:
        """Workers share gradients once a step, in the last of its backward passes."""
        return nullcontext() if self.parallel is None or last else self.parallel.no_sync()

    def _average_projections(self) -> None:
        """What DDP does for the student. A phase without layers leaves the projections without gradients."""
        for parameter in self.matcher.parameters() if self.parallel is not None else ():
            if parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= self.place.world_size

    def _finish_epoch(self, phase: Phase, batches: Sequence[Rows]) -> None:
        """Check the loss, score the epoch, keep its weights if none before was better (the later of equals wins)."""
        lesson, progress, position = self.lesson, self.progress, self.progress.position
        mean = progress.loss / len(lesson.train)
        logits = self._selecting_logits()
        # The last step of an epoch can end in weights that no loss has seen yet.
        if not (math.isfinite(mean) and np.isfinite(logits).all()):
            raise ValueError(
                f"train.learning_rate: with {lesson.spec.train.learning_rate} training diverges in epoch "
                f"{position.epoch + 1} of phase {phase.name} (loss {mean}); choose a lower rate"
            )
        scored = scores(lesson.task, logits, lesson.select)
        score = scored[lesson.task.primary]
        beside = self._counted()
        progress.history.append(Epoch(phase.name, position.epoch + 1, mean, score, progress.seconds, beside))
        if progress.best < 0 or score >= progress.history[progress.best].score:
            progress.best = len(progress.history) - 1
            progress.best_weights = {
                name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()
            }
        if lesson.keep is not None and self.place.rank == 0:
            lesson.keep(self.model, len(progress.history))
        if self.draw is not None:
            self.draw(len(progress.history), self._points(phase, batches, scored))
        last = position.epoch + 1 == phase.epochs
        progress.position = Position(position.phase + 1) if last else replace(position, epoch=position.epoch + 1)
        progress.new_epoch()
        done = f"epoch {len(progress.history)}/{lesson.spec.train.epochs} {phase.name}"
        more = f"  {beside['used']:,} candidates, mean rank {beside['mean_rank']:.1f}" if beside else ""
        self.place.note(f"{done}  loss {mean:.4f}  {lesson.task.primary} {score:.1f}{more}")

    def _points(self, phase: Phase, batches: Sequence[Rows], scored: Mapping[str, float]) -> Sequence[Point]:
        """What there is to draw of the epoch that has ended."""
        lesson, progress = self.lesson, self.progress
        spec, position, steps = lesson.spec, progress.position, len(batches)
        before = len(progress.history) - 1
        since = progress.history[-2].seconds if before else 0.0
        marks = progress.marks
        along = points(marks, batches, lesson.train.tokens.lengths, before * steps, since)
        for point, mark in zip(along, marks, strict=True):
            step = position.epoch * steps + int(mark[0]) - 1
            factor = learning_rate(step, phase.epochs * steps, spec.train.warmup)
            point.values["schedule/learning_rate"] = spec.train.learning_rate * factor
        weighing = weights(spec.method, position, phase.epochs, lesson.task.regression)
        used = torch.cuda.max_memory_allocated(self.place.device) if self.place.device.startswith("cuda") else None
        along[-1].values.update(at_the_end(progress.history[-1], weighing, scored, used))
        return along

    def _counted(self) -> dict[str, Any] | None:
        """What was done with candidates in this epoch; None where nothing was."""
        if self.augmentation is None or not any(self.progress.tally):
            return None
        return counted(self.progress.tally, self.augmentation.pool.k)

    def _selecting_logits(self) -> Logits:
        """What the model says on the split that selects."""
        lesson, place = self.lesson, self.place
        precision = lesson.spec.train.precision
        return predict(
            self.model, lesson.select, lesson.task.outputs, place.device, place.rank, place.world_size, precision
        )

    def _checkpoint(self, optimizer: torch.optim.Optimizer) -> None:
        """Save, if the last time is long enough ago. Workers hold equal weights: the first one writes."""
        if self.lesson.clock() - self.saved_at <= self.lesson.checkpoint_seconds:
            return
        if self.place.rank == 0:
            # A new phase starts with a new optimizer.
            fresh = self.progress.position.epoch == self.progress.position.step == 0
            state = {} if fresh else optimizer.state_dict()
            save(self.lesson.checkpoint, self.progress, self.whole.state_dict(), state)
        self.saved_at = self.lesson.clock()
