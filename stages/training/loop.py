"""The training loop, for students and for teachers that are fine-tuned.

A step: batch -> student forward -> teacher outputs -> named loss terms -> weighted sum -> backward -> optimizer step.
The rows of a batch, their order and the dropout masks follow from (seed, phase, epoch, step, rank) alone. So a training
that was interrupted and resumed ends with the same bits, on a CPU with the same number of workers and threads.

The batches of the next step, with the stored teacher outputs for them, are made in a prefetching thread while the
current step computes. No step waits for the device: the loss is read when an epoch ends.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.corpus.batches import Rows, share_of, steps_of
from stages.corpus.prefetch import one_ahead
from stages.corpus.rowset import Batch
from stages.device_turn import TURN
from stages.evaluation.predictions import Logits
from stages.models.predict import predict
from stages.specs.axes.training import Phase, Position
from stages.specs.schedule import EpochPlan, OutputRequest, epoch_plan, term_names
from stages.specs.seeds import seed_of
from stages.specs.student import rate_text
from stages.training.checkpoint import Epoch, OtherFormat, Progress, State, load, same_on_all_workers, save
from stages.training.objective.auto_weight import measured_weight
from stages.training.objective.trained_parts import PARTS, TrainedParts
from stages.training.optimizer import load_state, optimizer_of, set_learning_rate, state_of
from stages.training.participants.making import participants_of
from stages.training.participants.protocol import Participant, StepSize
from stages.training.selection.epochs import is_selected, selection_scores
from stages.training.setup import LoopWorker, StepWork, TrainingSetup, host_batches
from stages.training.steps.graphs import step_of
from stages.training.steps.student_step import StudentStep
from stages.training.sums import SumLayout, sum_layout
from stages.training.tensorboard import CurveSampler, Point, curve_points, epoch_values
from stages.training.turns import Turns

OPTIMIZER = "optimizer"
"""The optimizer's name among the parts of a checkpoint."""


def unchanged(batch: Batch) -> Batch:
    """The batch itself."""
    return batch


def fit(model: nn.Module, setup: TrainingSetup, worker: LoopWorker) -> Progress:
    """Train ``model`` in place through every phase and epoch, from the checkpoint if there is one. ``model`` ends with
    the weights of the last epoch; those of the best are in the result, with the history. Raises ValueError when the
    loss or the logits of an epoch are not finite."""
    training = Training(model, setup, worker)
    training.run()
    return training.progress


class Training:
    """The training of one student: the model, the parts trained with it, and the progress."""

    def __init__(self, model: nn.Module, setup: TrainingSetup, worker: LoopWorker) -> None:
        self.setup = setup
        self.worker = worker
        self.parts = TrainedParts(model, setup, worker)
        self.model = self.parts.model
        self.participants = participants_of(self.parts)
        self.plan = setup.spec.method.training.phases(setup.spec.train.epochs)
        self.layout = self._layout()
        self.step = step_of(StudentStep(self.parts, self.participants, self.layout), self.parts, worker.note)
        self.write_curves = setup.write_curves if worker.rank == 0 else None
        self.turns = Turns(np.zeros(0, bool))
        self.progress = Progress(self.layout, learning_rate=setup.spec.train.learning_rate)
        self.saved_at = setup.clock()

    def _layout(self) -> SumLayout:
        """The sums over the rows of an epoch that this training keeps."""
        method, epochs = self.setup.spec.method, self.setup.spec.train.epochs
        terms = term_names(method, epochs, self.setup.task.kind)
        participants = {participant.name: participant.sums for participant in self.participants}
        attended = method.structure.attended_layers
        return sum_layout(terms, len(attended) + sum(attended), participants)

    def run(self) -> None:
        """Train from the checkpoint, or from the start, to the end of the last epoch."""
        optimizer_state = self._resume()
        if self.setup.spec.method.structure.has_measured_weight and self.progress.layer_weight is None:
            self.progress.layer_weight = measured_weight(self.parts, self.plan[0])
        for number in range(self.progress.position.phase, len(self.plan)):
            if number > 0 and self.progress.position == Position(number) and self.progress.best >= 0:
                # The second phase starts from the best epoch of the first (Jafari et al. 2021, section 4).
                self.model.load_state_dict(self.progress.best_weights)
            optimizer = optimizer_of(self.parts.all, self.setup.spec.train, self.step.rate_on)
            if optimizer_state:
                load_state(optimizer, optimizer_state)
                optimizer_state = {}
            phase = self.plan[number]
            self.turns = self._turns(number, phase)
            while self.progress.position.phase == number:
                batches = self._epoch(optimizer, phase)
                self._finish_epoch(phase, batches)
                self._checkpoint(optimizer)
        self.step.close()

    def _resume(self) -> State:
        """Load the last checkpoint, if there is a usable one. Returns the optimizer's state, {} without a
        checkpoint."""
        found, reason = self._usable_checkpoint()
        position = found[0].position if found is not None else None
        if not same_on_all_workers(position, self.worker.world_size, self.worker.device):
            found, reason = None, "the workers found different checkpoints"
        if found is None:
            if reason:
                self.worker.note(f"starts over: {reason}")
            return {}
        self.progress, states = found
        self.parts.load_states(states)
        for participant in self.participants:
            participant.load_state(states[participant.name])
        self.worker.note(f"goes on from epoch {len(self.progress.history) + 1}, step {self.progress.position.step}")
        self.worker.restore(self._rows_done() if self.worker.rank == 0 else 0)
        return states[OPTIMIZER]

    def _usable_checkpoint(self) -> tuple[tuple[Progress, Mapping[str, State]] | None, str]:
        """The checkpoint that this worker can read and may continue; or None, and the reason, '' if there is none."""
        names = [participant.name for participant in self.participants]
        try:
            found = load(self.setup.checkpoint, (*PARTS, OPTIMIZER, *names), self.layout)
        except OtherFormat as error:
            return None, f"{self.setup.checkpoint.name} is {error}"
        if found is not None and not self.setup.resumable(found[0]):
            return None, "the models of the epochs before the checkpoint were not kept"
        rate = self.setup.spec.train.learning_rate
        if found is not None and found[0].learning_rate != rate:  # the trainings of a sweep were run again
            was = rate_text(found[0].learning_rate)
            return None, f"the checkpoint is of learning rate {was}, and the sweep now chooses {rate_text(rate)}"
        return found, ""

    def _rows_done(self) -> int:
        """Rows that earlier runs of this training went through, for the live view."""
        position, settings = self.progress.position, self.setup.spec.train
        return len(self.progress.history) * self.setup.train.epoch_rows + position.step * settings.batch_size

    def _epoch(self, optimizer: torch.optim.Optimizer, phase: Phase) -> Sequence[Rows]:
        """Run the steps of one epoch from ``progress.position`` on. Returns all batches of the epoch."""
        setup, worker, progress = self.setup, self.worker, self.progress
        settings, start = setup.spec.train, progress.position
        seed = seed_of(settings.seed, start.phase, start.epoch)
        batches = setup.train.batches(settings.batch_size, seed, len(progress.history))
        plan = self._epoch_plan(start, phase)
        clock = setup.clock()
        for participant in self._active(plan):
            participant.start_epoch(plan)
        total = torch.tensor(progress.sums, dtype=torch.float64, device=worker.device)
        sampler = CurveSampler(self.layout.terms, len(batches), progress.curve_samples) if self.write_curves else None
        numbered = list(enumerate(batches, start.epoch * len(batches)))[start.step :]
        works = one_ahead(lambda step: self._step_work(*step, plan), numbered)
        with self.step.running(), closing(works):
            for step, work in enumerate(works, start.step):
                number = start.epoch * len(batches) + step
                factor, rows = self.turns.factor(number, settings.warmup), len(batches[step])
                if self.turns.is_own(number):
                    total += self._turn(work, rows, step, plan, number, factor)
                else:
                    set_learning_rate(optimizer, settings.learning_rate * factor)
                    total += self.step.run(work, rows, plan, optimizer, self._seed(step, plan))
                worker.advance(len(batches[step]) if worker.rank == 0 else 0)
                now = setup.clock()
                progress.seconds += now - clock
                clock = now
                if sampler is not None:
                    sampler.sample(step + 1, progress.seconds, total)
                if now - self.saved_at > setup.checkpoint_seconds and step + 1 < len(batches):
                    progress.position = replace(start, step=step + 1)
                    progress.set_sums(total)
                    progress.curve_samples = sampler.samples() if sampler else []
                    self._checkpoint(optimizer)
                    # Time spent on a checkpoint is not training time.
                    clock = setup.clock()
        said = self.step.end_epoch()
        if said:
            worker.note(said)
        progress.position = replace(start, step=0)
        progress.set_sums(total)
        progress.curve_samples = sampler.samples() if sampler else []
        progress.seconds += setup.clock() - clock
        return batches

    def _epoch_plan(self, position: Position, phase: Phase) -> EpochPlan:
        """The plan of the epoch at ``position``."""
        spec, teachers = self.setup.spec, self.setup.signal.teachers
        kind, auto_weight = self.setup.task.kind, self.progress.auto_weight
        seed = spec.train.seed
        return epoch_plan(spec.method, position, phase.epochs, kind, teachers, seed, auto_weight)

    def _step_work(self, number: int, rows: Rows, plan: EpochPlan) -> StepWork:
        """This worker's part of the global batch ``rows`` of the step with this number within the phase, in host
        memory. Runs in the prefetching thread. Only the student's steps need what is stored of the teachers."""
        setup, request = self.setup, OutputRequest() if self.turns.is_own(number) else plan.request
        share = share_of(rows, self.worker.rank, self.worker.world_size)
        max_rows = setup.spec.train.micro_batch or len(share.rows)
        active = self._active(plan) if share.weight else ()
        fitted = self.step.fitted if all(participant.has_passes for participant in active) else unchanged
        prepared = {participant.name: participant.prepare(share.rows, plan, fitted) for participant in active}
        batches = [fitted(batch) for batch in host_batches(setup.train, setup.signal, share.rows, request, max_rows)]
        if self.worker.device.startswith("cuda"):
            batches = [batch.pinned() for batch in batches]
        return StepWork(batches, share.weight, prepared)

    def _turns(self, number: int, phase: Phase) -> Turns:
        """The turns of the phase with this number."""
        steps = steps_of(self.setup.train.epoch_rows, self.setup.spec.train.batch_size)
        own = np.zeros(phase.epochs * steps, bool)
        for epoch in range(phase.epochs):
            numbers = np.arange(epoch * steps, (epoch + 1) * steps)
            for participant in self._active(self._epoch_plan(Position(number, epoch), phase)):
                own[numbers] |= participant.turns(numbers)
        if own.all():
            raise ValueError(
                f"data: each of the {len(own)} steps of phase {phase.name} is a generator's turn, and none trains the "
                "student; set fewer generator_steps, or train for more epochs"
            )
        return Turns(own, self.setup.spec.train.schedule)

    def _turn(self, work: StepWork, rows: int, step: int, plan: EpochPlan, number: int, factor: float) -> Tensor:
        """A participant's own turn on a global batch of ``rows`` rows, in the step with this ``number`` within the
        phase. Returns its sums over the rows of all workers, as ``StudentStep.run`` does."""
        worker, layout = self.worker, self.layout
        with TURN:
            torch.manual_seed(self._seed(step, plan))
            total = torch.zeros(layout.size, dtype=torch.float64, device=worker.device)
            batches = [batch.to(worker.device) for batch in work.batches]
            for participant in self._active(plan):
                if participant.turns(np.array([number]))[0]:
                    prepared = work.prepared.get(participant.name)
                    for place, sums in participant.take_turn(
                        batches, prepared, StepSize(rows, work.weight), plan, factor
                    ).items():
                        total[layout.place(place)] += sums
        if worker.world_size > 1:
            torch.distributed.all_reduce(total)
        return total

    def _seed(self, step: int, plan: EpochPlan) -> int:
        """The seed of the dropout masks of a step."""
        position = plan.position
        return seed_of(self.setup.spec.train.seed, position.phase, position.epoch, step, self.worker.rank)

    def _active(self, plan: EpochPlan) -> Sequence[Participant]:
        """The participants that take part in the steps of an epoch."""
        return [participant for participant in self.participants if participant.is_active(plan)]

    def _finish_epoch(self, phase: Phase, batches: Sequence[Rows]) -> None:
        """Check the loss, score the epoch, and keep its weights if ``is_selected`` prefers it to the best so far."""
        setup, progress, position = self.setup, self.progress, self.progress.position
        rows = sum(len(batch) for batch in self.turns.student_batches(position.epoch, batches))
        mean = progress.loss / rows if rows else None
        self.parts.agree_on_buffers()
        logits = self._selection_logits()
        # The weights after the last step enter no loss of this epoch, so the logits are checked, too.
        if not (math.isfinite(progress.loss) and np.isfinite(logits).all()):
            raise ValueError(
                f"training diverges in epoch {position.epoch + 1} of phase {phase.name} (loss {mean}); choose a lower "
                f"learning_rate than {setup.spec.train.learning_rate}, or smaller weights of the method's terms"
            )
        found = selection_scores(setup.task, setup.select_metric, logits, setup.select)
        entries = self._entries()
        number, best = position.epoch + 1, progress.history[progress.best] if progress.best >= 0 else None
        largest, weights = progress.mean_attention(rows, setup.spec.method.structure.attended_layers)
        epoch = Epoch(phase.name, number, mean, found.score, found.loss, progress.seconds, entries, largest, weights)
        progress.history.append(epoch)
        if setup.spec.method.training.trains_logits(position.phase) and is_selected(setup.spec.train, epoch, best):
            progress.best = len(progress.history) - 1
            progress.best_weights = {
                name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()
            }
        if setup.save_epoch is not None and self.worker.rank == 0:
            setup.save_epoch(self.model, len(progress.history))
        if self.write_curves is not None:
            self.write_curves(len(progress.history), self._curve_points(phase, batches, found.metrics))
        last = position.epoch + 1 == phase.epochs
        progress.position = Position(position.phase + 1) if last else replace(position, epoch=position.epoch + 1)
        progress.new_epoch()
        done = f"epoch {len(progress.history)}/{setup.spec.train.epochs} {phase.name}"
        lines = [one.line(entries[one.name]) for one in self.participants if one.name in entries]
        more = "".join(f"  {line}" for line in lines)
        loss = "no step of the student" if mean is None else f"loss {mean:.4f}"
        selection = f"{setup.select_metric} {found.score:.1f}  selection loss {found.loss:.4f}"
        self.worker.note(f"{done}  {loss}  {selection}{more}")

    def _curve_points(self, phase: Phase, batches: Sequence[Rows], scored: Mapping[str, float]) -> Sequence[Point]:
        """The points of the epoch that has just ended. The last one has the values of the whole epoch, too."""
        setup, progress = self.setup, self.progress
        spec, position, steps = setup.spec, progress.position, len(batches)
        epochs_before = len(progress.history) - 1
        seconds_before = progress.history[-2].seconds if epochs_before else 0.0
        samples = progress.curve_samples
        points = curve_points(
            self.layout.terms,
            samples,
            self.turns.student_batches(position.epoch, batches),
            setup.train.costs,
            epochs_before * steps,
            seconds_before,
        )
        for point, sample in zip(points, samples, strict=True):
            factor = self.turns.student_rate(position.epoch * steps + int(sample[0]), spec.train.warmup)
            point.values["schedule/learning_rate"] = spec.train.learning_rate * factor
        plan = self._epoch_plan(position, phase)
        used = torch.cuda.max_memory_allocated(self.worker.device) if self.worker.device.startswith("cuda") else None
        points[-1].values.update(epoch_values(progress.history[-1], plan, scored, used))
        return points

    def _entries(self) -> dict[str, dict[str, Any]]:
        """The entries of participants for the epoch that ends, by name."""
        found = {one.name: one.entry(self.progress.sums_of(one.name)) for one in self.participants}
        return {name: entry for name, entry in found.items() if entry is not None}

    def _selection_logits(self) -> Logits:
        """The model's logits [rows, C] on the split that selects the best epoch."""
        setup, worker = self.setup, self.worker
        precision = setup.spec.train.precision
        return predict(
            self.model, setup.select, setup.task.outputs, worker.device, worker.rank, worker.world_size, precision
        )

    def _checkpoint(self, optimizer: torch.optim.Optimizer) -> None:
        """Save a checkpoint, if the last one is older than ``checkpoint_seconds``. All workers have the same weights;
        the first one writes."""
        if self.setup.clock() - self.saved_at <= self.setup.checkpoint_seconds:
            return
        if self.worker.rank == 0:
            # A new phase starts with a new optimizer.
            fresh = self.progress.position.epoch == self.progress.position.step == 0
            state = {} if fresh else state_of(optimizer)
            participants = {participant.name: participant.state() for participant in self.participants}
            save(self.setup.checkpoint, self.progress, {**self.parts.states(), OPTIMIZER: state, **participants})
        self.saved_at = self.setup.clock()
