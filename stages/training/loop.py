"""The training loop: one for teachers and students alike.

batch -> student forward -> signal -> named losses -> weights from the schedule -> step. What a batch
holds, how it is shuffled and which dropout masks it sees follow from (seed, phase, epoch, step, rank)
alone, so a run that was cut goes on with the same bits, on a CPU with equal workers and threads.

The next step's batches, and what a store says about them, are made in a thread of their own while the
present step computes. No step waits for the device: the loss is looked at when an epoch ends.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from stages.corpus.batches import Rows, epoch_batches, parts, share_of
from stages.corpus.prefetch import one_ahead
from stages.corpus.rowset import Batch
from stages.evaluation.predictions import Logits
from stages.evaluation.scoring import scores
from stages.models.forward import forward, pool, width
from stages.models.predict import autocast, predict
from stages.specs.layer_map import LayerGroup, groups_at
from stages.specs.layers import NoLayers
from stages.specs.schedule import (
    Phase,
    Position,
    learning_rate,
    output_request,
    phases,
    weights_at,
)
from stages.specs.seeds import seed_of
from stages.training.candidates import SUMS, counted
from stages.training.checkpoint import Epoch, OtherFormat, Progress, State, load, save
from stages.training.layer_losses import Matcher
from stages.training.losses import TERMS, terms_of, weighed
from stages.training.minimax import Augmentation, Prepared
from stages.training.optimizer import make_optimizer, memory_named
from stages.training.relations import Workers
from stages.training.setup import NO_CANDIDATES, EpochPlan, LoopWorker, StepWork, TrainingSetup
from stages.training.tensorboard import CurveSampler, Point, at_the_end, points

PARTS = ("student", "projections", "optimizer")
"""The parts of a training whose states a checkpoint holds."""


def fit(model: nn.Module, setup: TrainingSetup, place: LoopWorker) -> Progress:
    """Train ``model`` in place through every phase and epoch. It ends with its last weights; the best epoch's
    are in the result. Raises ValueError when the loss is not finite."""
    training = Training(model, setup, place)
    training.run()
    return training.progress


class Training:
    """One student while it is trained."""

    def __init__(self, model: nn.Module, setup: TrainingSetup, place: LoopWorker) -> None:
        settings = setup.spec.train
        self.model = model.to(place.device).train()
        self.setup = setup
        self.place = place
        self.structure = setup.spec.method.structure
        torch.manual_seed(seed_of(settings.seed))
        matcher = Matcher(self.structure, width(model), setup.teacher_width, setup.task.outputs)
        self.matcher = matcher.to(place.device)
        self.whole = nn.ModuleDict({"student": model, "matcher": self.matcher})
        distributed = place.world_size > 1
        # DDP overlaps the reduction of gradients with the backward pass.
        self.parallel = nn.parallel.DistributedDataParallel(model, forward_sync_buffers=False) if distributed else None
        wrapped: nn.Module = self.parallel or model
        self.wrapped = cast(nn.Module, torch.compile(wrapped, dynamic=True)) if settings.compile else wrapped
        self.augmentation = self._augmentation()
        self.plan = phases(setup.spec.method.training, setup.spec.train.epochs)
        self.draw = setup.draw if place.rank == 0 else None
        self.progress = Progress()
        self.saved_at = setup.clock()

    def _augmentation(self) -> Augmentation | None:
        setup = self.setup
        if setup.pool is None:
            return None
        train = setup.spec.train
        return Augmentation(setup.pool, setup.spec.method, train.precision, self.place.device, train.micro_batch)

    def run(self) -> None:
        optimizer_state = self._resume()
        for number in range(self.progress.position.phase, len(self.plan)):
            if number > 0 and self.progress.position == Position(number):
                # The second phase goes on from the best epoch of the first (Jafari et al. 2021, section 4).
                self.model.load_state_dict(self.progress.best_weights)
            optimizer = make_optimizer(self.whole, self.setup.spec.train)
            if optimizer_state:
                optimizer.load_state_dict(dict(optimizer_state))
                optimizer_state = {}
            phase = self.plan[number]
            while self.progress.position.phase == number:
                batches = self._epoch(optimizer, phase)
                self._finish_epoch(phase, batches)
                self._checkpoint(optimizer)

    def _resume(self) -> State:
        """Load the last checkpoint, if there is one that serves; return the optimizer's state, {} without one."""
        try:
            found = load(self.setup.checkpoint, self.place.device, PARTS)
        except OtherFormat as error:
            self.place.note(f"starts over: {self.setup.checkpoint.name} is {error}")
            return {}
        if found is None:
            return {}
        progress, parts = found
        if not self.setup.resumable(progress):
            self.place.note("starts over: the models of the epochs before the checkpoint were not kept")
            return {}
        self.progress = progress
        self.model.load_state_dict(parts["student"])
        self.matcher.load_state_dict(parts["projections"])
        self.place.note(f"goes on from epoch {len(self.progress.history) + 1}, step {self.progress.position.step}")
        self.place.advance(self._rows_done() if self.place.rank == 0 else 0)
        return parts["optimizer"]

    def _rows_done(self) -> int:
        """Rows that earlier sittings trained on, for the live view."""
        position, settings = self.progress.position, self.setup.spec.train
        return len(self.progress.history) * len(self.setup.train) + position.step * settings.batch_size

    def _epoch(self, optimizer: torch.optim.Optimizer, phase: Phase) -> Sequence[Rows]:
        """The steps of one epoch from ``progress.position`` on. Returns all its batches."""
        setup, place, progress = self.setup, self.place, self.progress
        settings, start = setup.spec.train, progress.position
        seed = seed_of(settings.seed, start.phase, start.epoch)
        batches = epoch_batches(setup.train.tokens.lengths, settings.batch_size, seed)
        epoch_plan = self._epoch_plan(start, phase)
        clock = setup.clock()
        self._look_at_candidates(epoch_plan)
        total = torch.tensor(progress.sums, dtype=torch.float64, device=place.device)
        sheet = CurveSampler(len(batches), progress.marks) if self.draw else None
        with closing(one_ahead(lambda rows: self._work(rows, epoch_plan), batches[start.step :])) as works:
            for step, work in enumerate(works, start.step):
                factor = learning_rate(start.epoch * len(batches) + step, phase.epochs * len(batches), settings.warmup)
                total += self._step(work, len(batches[step]), step, epoch_plan, optimizer, factor)
                place.advance(len(batches[step]) if place.rank == 0 else 0)
                now = setup.clock()
                progress.seconds += now - clock
                clock = now
                if sheet is not None:
                    sheet.look(step + 1, progress.seconds, total)
                if now - self.saved_at > setup.checkpoint_seconds and step + 1 < len(batches):
                    progress.position = replace(start, step=step + 1)
                    progress.set_sums(total)
                    progress.marks = sheet.marks() if sheet else []
                    self._checkpoint(optimizer)
                    # Time spent on a checkpoint is not training time.
                    clock = setup.clock()
        progress.position = replace(start, step=0)
        progress.set_sums(total)
        progress.marks = sheet.marks() if sheet else []
        progress.seconds += setup.clock() - clock
        return batches

    def _look_at_candidates(self, epoch_plan: EpochPlan) -> None:
        """Make ready to count them, and pick for all rows at once where that is due."""
        augmentation, progress, place = self.augmentation, self.progress, self.place
        if augmentation is None:
            return
        progress.tally = progress.tally or [0.0] * (augmentation.pool.k + SUMS)
        due = epoch_plan.position.step == 0 and augmentation.scores_all(epoch_plan.position)
        if epoch_plan.weights.candidates and due:
            progress.picked = augmentation.pick_all(
                self.model, epoch_plan.weights, epoch_plan.request, place.rank, place.world_size
            )

    def _epoch_plan(self, position: Position, phase: Phase) -> EpochPlan:
        spec, signal = self.setup.spec, self.setup.signal
        weights = weights_at(spec.method, position, phase.epochs, self.setup.task.regression)
        wanted = output_request(spec.method, weights, position, phase.epochs, signal.teachers, spec.train.seed)
        groups = groups_at(spec.method.structure, spec.train.seed, position.phase, position.epoch)
        return EpochPlan(position, weights, wanted, groups)

    def _work(self, rows: Rows, epoch_plan: EpochPlan) -> StepWork:
        """This worker's part of the global batch ``rows``, in host memory. Runs in the prefetching thread."""
        wanted = epoch_plan.request
        share, train = share_of(rows, self.place.rank, self.place.world_size), self.setup.train
        most = self.setup.spec.train.micro_batch or len(share.rows)
        batches = []
        for start, end in parts(len(share.rows), most):
            chosen = share.rows[start:end]
            read = self.setup.signal.read(chosen, wanted) if wanted else {}
            batch = replace(train.batch(chosen, "cpu"), read=read)
            batches.append(batch.pinned() if self.place.device.startswith("cuda") else batch)
        if self.augmentation is None or not (epoch_plan.weights.candidates and share.weight):
            return StepWork(batches, share.weight)
        return StepWork(batches, share.weight, self.augmentation.prepare(share.rows, wanted, self.progress.picked))

    def _step(
        self,
        work: StepWork,
        rows: int,
        step: int,
        epoch_plan: EpochPlan,
        optimizer: torch.optim.Optimizer,
        factor: float,
    ) -> Tensor:
        """One optimizer step on a global batch of ``rows``. Returns the sums of all its rows, on the device: the loss,
        its terms, and what is counted of candidates."""
        settings, place, position = self.setup.spec.train, self.place, epoch_plan.position
        torch.manual_seed(seed_of(settings.seed, position.phase, position.epoch, step, place.rank))
        total = torch.zeros(len(self.progress.sums), dtype=torch.float64, device=place.device)
        total += self._candidates(work.candidates, rows, epoch_plan)
        for number, batch in enumerate(work.batches, 1):
            with self._gradients_shared(number == len(work.batches)), memory_named(len(batch.rows)):
                loss_B, terms = self._loss(batch.to(place.device), rows, epoch_plan)
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

    def _candidates(self, ready: Prepared, rows: int, epoch_plan: EpochPlan) -> Tensor:
        """Their part of a step: gradients, and what it adds to the total. It comes before that of the rows, whose last
        pass shares the gradients of both."""
        place, augmentation = self.place, self.augmentation
        found = torch.zeros(len(self.progress.sums), dtype=torch.float64, device=place.device)
        if augmentation is None or ready is NO_CANDIDATES:
            return found
        ready = augmentation.decide(self.model, ready, epoch_plan.weights, epoch_plan.request)
        for extra in ready.extras:
            with self._gradients_shared(last=False), memory_named(len(extra.batch.rows)):
                loss = augmentation.loss(
                    self.wrapped, extra.to(place.device), epoch_plan.weights, epoch_plan.request
                ).sum()
                (loss * (place.world_size / rows)).backward()
            found[0] += loss.detach()
        assert ready.tally is not None
        found[1 + TERMS.index("candidates")] = found[0] / epoch_plan.weights.candidates
        found[1 + len(TERMS) :] += torch.from_numpy(ready.tally).to(place.device)
        return found

    def _loss(self, batch: Batch, rows: int, epoch_plan: EpochPlan) -> tuple[Tensor, dict[str, Tensor]]:
        """[B], of rows that this worker holds of a global batch of ``rows``, and what it is the weighted sum of, [B] by
        name. Hidden states are asked for where layers are in force, only."""
        setup, weights = self.setup, epoch_plan.weights
        with autocast(self.place.device, setup.spec.train.precision):
            logits, hidden = forward(self.wrapped, batch.inputs, hidden=bool(weights.layers))
        outputs = setup.signal(batch, epoch_plan.request) if epoch_plan.request else {}
        terms = terms_of(logits.float(), batch.labels, outputs, setup.spec.method, weights, setup.task.regression)
        loss_B = weighed(terms, weights)
        if not weights.layers:
            return loss_B, terms
        error_B = self._layer_error(hidden, batch, outputs, rows, epoch_plan.groups)
        return loss_B + weights.layers * error_B, terms | {"layers": error_B}

    def _layer_error(
        self,
        hidden: Sequence[Tensor],
        batch: Batch,
        outputs: Mapping[str, Tensor],
        rows: int,
        groups: Sequence[LayerGroup],
    ) -> Tensor:
        assert not isinstance(self.structure, NoLayers)
        mask, pooling = batch.inputs["attention_mask"], self.structure.pooling
        states = {layer: pool(hidden[layer], mask, pooling) for layer in self.matcher.student_layers}
        workers = Workers(self.place.rank, self.place.world_size, rows)
        error: Tensor = self.matcher(states, outputs, groups, workers)
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
        setup, progress, position = self.setup, self.progress, self.progress.position
        mean = progress.loss / len(setup.train)
        logits = self._selecting_logits()
        # The last step of an epoch can end in weights that no loss has seen yet.
        if not (math.isfinite(mean) and np.isfinite(logits).all()):
            raise ValueError(
                f"train.learning_rate: with {setup.spec.train.learning_rate} training diverges in epoch "
                f"{position.epoch + 1} of phase {phase.name} (loss {mean}); choose a lower rate"
            )
        scored = scores(setup.task, logits, setup.select)
        score = scored[setup.task.primary]
        candidates = self._counted()
        progress.history.append(Epoch(phase.name, position.epoch + 1, mean, score, progress.seconds, candidates))
        if progress.best < 0 or score >= progress.history[progress.best].score:
            progress.best = len(progress.history) - 1
            progress.best_weights = {
                name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()
            }
        if setup.keep is not None and self.place.rank == 0:
            setup.keep(self.model, len(progress.history))
        if self.draw is not None:
            self.draw(len(progress.history), self._points(phase, batches, scored))
        last = position.epoch + 1 == phase.epochs
        progress.position = Position(position.phase + 1) if last else replace(position, epoch=position.epoch + 1)
        progress.new_epoch()
        done = f"epoch {len(progress.history)}/{setup.spec.train.epochs} {phase.name}"
        more = f"  {candidates['used']:,} candidates, mean rank {candidates['mean_rank']:.1f}" if candidates else ""
        self.place.note(f"{done}  loss {mean:.4f}  {setup.task.primary} {score:.1f}{more}")

    def _points(self, phase: Phase, batches: Sequence[Rows], scored: Mapping[str, float]) -> Sequence[Point]:
        """What there is to draw of the epoch that has ended."""
        setup, progress = self.setup, self.progress
        spec, position, steps = setup.spec, progress.position, len(batches)
        before = len(progress.history) - 1
        since = progress.history[-2].seconds if before else 0.0
        marks = progress.marks
        along = points(marks, batches, setup.train.tokens.lengths, before * steps, since)
        for point, mark in zip(along, marks, strict=True):
            step = position.epoch * steps + int(mark[0]) - 1
            factor = learning_rate(step, phase.epochs * steps, spec.train.warmup)
            point.values["schedule/learning_rate"] = spec.train.learning_rate * factor
        weights = weights_at(spec.method, position, phase.epochs, setup.task.regression)
        used = torch.cuda.max_memory_allocated(self.place.device) if self.place.device.startswith("cuda") else None
        along[-1].values.update(at_the_end(progress.history[-1], weights, scored, used))
        return along

    def _counted(self) -> dict[str, Any] | None:
        """What was done with candidates in this epoch; None where nothing was."""
        if self.augmentation is None or not any(self.progress.tally):
            return None
        return counted(self.progress.tally, self.augmentation.pool.k)

    def _selecting_logits(self) -> Logits:
        """What the model says on the split that selects."""
        setup, place = self.setup, self.place
        precision = setup.spec.train.precision
        return predict(
            self.model, setup.select, setup.task.outputs, place.device, place.rank, place.world_size, precision
        )

    def _checkpoint(self, optimizer: torch.optim.Optimizer) -> None:
        """Save, if the last time is long enough ago. Workers hold equal weights: the first one writes."""
        if self.setup.clock() - self.saved_at <= self.setup.checkpoint_seconds:
            return
        if self.place.rank == 0:
            # A new phase starts with a new optimizer.
            fresh = self.progress.position.epoch == self.progress.position.step == 0
            state = {} if fresh else optimizer.state_dict()
            parts = {
                "student": self.model.state_dict(),
                "projections": self.matcher.state_dict(),
                "optimizer": state,
            }
            save(self.setup.checkpoint, self.progress, parts)
        self.saved_at = self.setup.clock()
