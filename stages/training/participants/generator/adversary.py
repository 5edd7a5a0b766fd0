"""An adversary that writes texts: a masked language model fills masked tokens of the task's rows, so that student and
teacher differ on them (MATE-KD; Rashid et al. 2021, "MATE-KD: Masked Adversarial TExt, a Companion to Knowledge
Distillation", ACL).

    generator's turn: maximise over G   d(T(x'), S(x')),                       x' = x with masked tokens filled by G
    student's turn:   minimise over S   (1 - share) loss(x) + share d(T(x'), S(x'))

The divergence d is the term that the training has on the teacher's logits. In its own turn the generator chooses by a
straight-through Gumbel-softmax, and its gradient comes through the word embeddings of teacher and student, whose
weights it leaves alone. In the student's turn its choices are token ids, which student and teacher read as they read
any text; the teacher and the generator run without gradients, and the row as it is has its stored logits.

The released code runs the teacher on the rows as they are, too, and backward through teacher and generator in the
student's turn, where nothing of it is used; it also leaves the generator's dropout on there.

Shapes: B rows, T tokens, C classes, M filled places of a batch, V tokens of the vocabulary.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from stages.corpus.batches import Rows
from stages.corpus.rowset import Batch, token_rows
from stages.device_turn import TURN
from stages.models.embeddings.words import embed, embed_one_hot
from stages.models.forward import forward, widths
from stages.models.masked.language_model import Prediction
from stages.models.predict import autocast
from stages.specs.axes.data import WithGenerator
from stages.specs.axes.terms import LabelTerm, SoftTerm, TeacherTerm, teacher_term
from stages.specs.axes.training import Position
from stages.specs.schedule import GENERATED, EpochPlan, epoch_plan
from stages.specs.seeds import seed_of, seed_of_row
from stages.specs.student import GENERATED_ROWS
from stages.training.checkpoint import State
from stages.training.live_teachers import LiveTeachers
from stages.training.objective.relations import Workers
from stages.training.objective.trained_parts import TrainedParts
from stages.training.optimizer import explain_out_of_memory, make_optimizer
from stages.training.participants.generator.contrast import LayerContrast
from stages.training.participants.generator.gumbel import (
    Places,
    RowPlaces,
    chosen_in_row,
    drawn_tokens,
    forbidden_tokens,
    gumbel_noise,
    in_batch,
    straight_through,
    writable,
)
from stages.training.participants.generator.rows_table import Reading, generated_rows, write_generated_rows
from stages.training.participants.protocol import Cost, OtherLoss, Participant, StepSize, Sums, View
from stages.training.setup import Generator

DRAWS = 2
"""The kind of ``seed_of_row`` of generated rows."""

SUMS = ("rows", "changed", "places", "agreeing", "generator_rows", "objective")


class GeneratorAdversary(Participant):
    """Trains a generator in turns of its own, and gives the student its rows beside the task's.

    What it masks and writes in a row depends on the student's seed, phase, epoch and row alone. ``position`` is that of
    the epoch under way.
    """

    name = GENERATED
    changes_inputs = True

    def __init__(
        self, settings: WithGenerator, generator: Generator, teachers: LiveTeachers, parts: TrainedParts
    ) -> None:
        train, worker = parts.setup.spec.train, parts.worker
        self.settings = settings
        self.parts = parts
        self.teachers = teachers
        self.train = train
        self.worker = worker
        self.device = worker.device
        self.tokens = generator.tokens
        self.forbidden = forbidden_tokens(generator.tokens).to(worker.device)
        self.model = generator.model.to(worker.device).eval()
        rates = train.model_copy(update={"learning_rate": settings.learning_rate})
        self.optimizer = make_optimizer(self.model, rates)
        self.contrast = self._new_contrast()
        self.contrast_optimizer = None if self.contrast is None else make_optimizer(self.contrast, train)
        self.position = Position()
        teachers_of_all = parts.setup.signal.teachers
        self.request = epoch_plan(
            parts.setup.spec.method, Position(), 1, parts.setup.task.kind, teachers_of_all
        ).request
        self._sums = self._no_sums()

    @property
    def sums(self) -> int:
        """Of the student's turns: rows, places whose token changed, places, rows on which student and teacher agree;
        of its own: rows, and their objective."""
        return len(SUMS)

    def _new_contrast(self) -> LayerContrast | None:
        """The projections of the contrast, if there is one, with random weights by the student's seed."""
        if self.settings.contrast is None:
            return None
        student, teacher = (sum(widths(model)[1:]) for model in (self.parts.model, self.teachers.models[0]))
        with TURN:
            torch.manual_seed(seed_of(self.train.seed, DRAWS))
            return LayerContrast(self.settings.contrast, student, teacher).to(self.device)

    @property
    def _trained(self) -> Iterator[tuple[str, nn.Module, torch.optim.Optimizer, float]]:
        """What its turns train: name, module, optimizer and peak learning rate."""
        yield "model", self.model, self.optimizer, self.settings.learning_rate
        if self.contrast is not None and self.contrast_optimizer is not None:
            yield "contrast", self.contrast, self.contrast_optimizer, self.train.learning_rate

    def state(self) -> State:
        """The weights of the generator and of the contrast's projections, and the states of their optimizers."""
        return {
            name: {"weights": module.state_dict(), "optimizer": optimizer.state_dict()}
            for name, module, optimizer, _ in self._trained
        }

    def load_state(self, state: State) -> None:
        for name, module, optimizer, _ in self._trained:
            module.load_state_dict(state[name]["weights"])
            optimizer.load_state_dict(state[name]["optimizer"])

    def is_active(self, plan: EpochPlan) -> bool:
        """Whether generated rows have a share in the loss."""
        return bool(plan.generated)

    def start_epoch(self, plan: EpochPlan) -> None:
        self.position, self.request = plan.position, plan.request

    def turns(self, numbers: Rows) -> npt.NDArray[np.bool_]:
        """The first ``generator_steps`` of every ``generator_steps + student_steps``."""
        own = self.settings.generator_steps
        found: npt.NDArray[np.bool_] = numbers % (own + self.settings.student_steps) < own
        return found

    # --- the student's turn ---

    def prepare(self, rows: Rows, _plan: EpochPlan, _fit: Callable[[Batch], Batch]) -> Mapping[int, RowPlaces]:
        """The places that are filled in each of these rows."""
        return {int(row): self.places_in_row(int(row)) for row in rows}

    def places_in_row(self, row: int) -> RowPlaces:
        """The places that are filled in a row of train in the epoch under way."""
        ids_T = token_rows(self.parts.setup.train).collate(np.array([row]))["input_ids"][0]
        return chosen_in_row(ids_T, self.settings.mask, self.tokens, self.seed_of_row(row))

    def views(self, batch: Batch, prepared: Mapping[int, RowPlaces] | None, plan: EpochPlan) -> Iterator[View]:
        """The generated rows, then the rows as they are; the latter alone where the generator takes no part."""
        if not self.is_active(plan):
            yield View(batch.inputs)
            return
        places = self.places(batch, prepared)
        with torch.no_grad(), explain_out_of_memory(len(batch.rows)):
            generated = self.generated(batch, places)
            teacher_BC = self.teachers.logits(lambda _: generated, plan.request)
        labels = self.settings.labels
        terms = (replace(distance_of(plan), weight=1 - labels), *([LabelTerm(labels)] if labels else []))
        view = View(generated, plan.generated, False, OtherLoss(terms, teacher_BC, GENERATED), counts_in_full=True)
        yield view
        assert view.logits is not None
        self._count(batch, generated, places, view.logits, teacher_BC)
        yield View(batch.inputs, 1 - plan.generated, counts_in_full=True)

    def places(self, batch: Batch, prepared: Mapping[int, RowPlaces] | None = None) -> Places:
        """The places of these rows that are filled, from those that were prepared if there are any."""
        rows = [int(row) for row in batch.rows]
        found = [self.places_in_row(row) if prepared is None else prepared[row] for row in rows]
        return in_batch(found, batch.inputs["input_ids"].shape[1])

    def seed_of_row(self, row: int) -> int:
        """The seed of a row of train in the epoch under way."""
        return seed_of_row(DRAWS, self.train.seed, self.position.phase, self.position.epoch, row)

    def generated(self, batch: Batch, places: Places) -> dict[str, Tensor]:
        """The inputs with the tokens that the generator draws at ``places``. No gradient is kept."""
        if not len(places.flat):
            return dict(batch.inputs)
        flat_M, uniform_M = self._on_device(places.flat), self._on_device(places.uniform)
        logits_MV = writable(self.predicted(batch, flat_M), self.forbidden)
        filled_BT = _written(batch.inputs["input_ids"], flat_M, drawn_tokens(logits_MV, uniform_M))
        return {**batch.inputs, "input_ids": filled_BT}

    def predicted(self, batch: Batch, flat_M: Tensor) -> Tensor:
        """[M, V]: the generator's logits at the places ``flat_M`` of the batch, all of which are masked."""
        ids_BT = batch.inputs["input_ids"]
        masked_BT = ids_BT.flatten().index_fill(0, flat_M, self.tokens.mask).view_as(ids_BT)
        with autocast(self.device, self.train.precision):
            prediction: Prediction = self.model({**batch.inputs, "input_ids": masked_BT}, flat_M)
        return prediction.logits

    def _on_device(self, values: npt.NDArray[Any]) -> Tensor:
        found = torch.from_numpy(values)
        return found.pin_memory().to(self.device, non_blocking=True) if self.device.startswith("cuda") else found

    def _count(
        self, batch: Batch, generated: Mapping[str, Tensor], places: Places, student_BC: Tensor, teacher_BC: Tensor
    ) -> None:
        changed = (generated["input_ids"] != batch.inputs["input_ids"]).sum()
        agreeing = (student_BC.argmax(-1) == teacher_BC.argmax(-1)).sum()  # of a regression always, and left out
        self._sums[0] += len(batch.rows)
        self._sums[1] += changed
        self._sums[2] += len(places.flat)
        self._sums[3] += agreeing

    def collect(self) -> Tensor | None:
        found, self._sums = self._sums, self._no_sums()
        return found

    def _no_sums(self) -> Tensor:
        return torch.zeros(len(SUMS), dtype=torch.float64, device=self.device)

    # --- its own turn ---

    def take_turn(
        self,
        batches: Sequence[Batch],
        prepared: Mapping[int, RowPlaces] | None,
        step: StepSize,
        plan: EpochPlan,
        factor: float,
    ) -> Sums:
        """One step of the generator, up the mean distance between student and teacher on its rows."""
        self.model.train()
        parameters = [parameter for _, module, *_ in self._trained for parameter in module.parameters()]
        sums = self._no_sums()
        for batch in batches:
            with explain_out_of_memory(len(batch.rows)):
                objective_B = self.objective(batch, self.places(batch, prepared), plan, step.rows)
                mean = objective_B.sum() * (step.weight / step.rows)
                gradients = torch.autograd.grad(mean, parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
            sums[4] += len(batch.rows) * step.weight
            sums[5] += objective_B.detach().sum() * step.weight
        self._step(factor)
        self.model.eval()
        return {GENERATED: sums}

    def objective(self, batch: Batch, places: Places, plan: EpochPlan, rows: int) -> Tensor:
        """[B]: what the generator maximises, with its gradient for the weights of generator and projections. ``rows``
        is the size of the global batch."""
        inputs, contrast = self._inputs_with_choices(batch, places), self.contrast
        with autocast(self.device, self.train.precision):
            student, states, mask, *_ = forward(self.parts.model, inputs(self.parts.model), hidden=contrast is not None)
        if contrast is None:
            teacher_BC = self.teachers.logits(inputs, plan.request)
            return generator_objective(distance_of(plan), student.float(), teacher_BC, self.settings)
        teacher_BC, followed = self.teachers.logits_and_states(inputs)
        distance_B = generator_objective(distance_of(plan), student.float(), teacher_BC, self.settings)
        workers = Workers(self.worker.rank, self.worker.world_size, rows)
        contrast_B: Tensor = contrast(states, followed, mask, workers)
        share = contrast.settings.share
        objective_B: Tensor = (1 - share) * distance_B + share * contrast_B
        return objective_B

    def _inputs_with_choices(self, batch: Batch, places: Places) -> Callable[[nn.Module], Mapping[str, Tensor]]:
        """The inputs of each model with the generator's choices at ``places``, as word embeddings with a gradient for
        the choices. A batch in which no token is masked is as it is."""
        if not len(places.flat):
            return lambda _: batch.inputs
        flat_M = self._on_device(places.flat)
        logits_MV = writable(self.predicted(batch, flat_M), self.forbidden)
        seeds = [self.seed_of_row(int(row)) for row in batch.rows]
        noise_MV = gumbel_noise(places.by_row, logits_MV.shape[1], seeds, self.device)
        choice_MV = straight_through(logits_MV, noise_MV, self.settings.temperature)
        ids_BT = batch.inputs["input_ids"]
        filled_BT = _written(ids_BT, flat_M, choice_MV.detach().argmax(-1))

        def inputs(model: nn.Module) -> dict[str, Tensor]:
            return {**batch.inputs, "input_ids": filled_BT, "inputs_embeds": _filled(model, ids_BT, flat_M, choice_MV)}

        return inputs

    def _step(self, factor: float) -> None:
        """A step of each optimizer, by the gradients of the mean objective over all workers: the generator's up, and
        those of the contrast's projections down."""
        for name, module, optimizer, rate in self._trained:
            for parameter in module.parameters():
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                if self.worker.world_size > 1:
                    torch.distributed.all_reduce(parameter.grad)
                if name == "model":
                    parameter.grad.neg_()
            nn.utils.clip_grad_norm_(module.parameters(), self.train.max_grad_norm)
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    # --- the history ---

    def write_files(self, folder: Path, student: nn.Module, tokenizer: Path) -> None:
        """Write ``generated.parquet``: some rows of train as the generator now changes them, with the masks of the
        first epoch, so that they do not depend on where a training was resumed."""
        setup, self.position = self.parts.setup, Position()
        read = Reading(self.teachers, self.request, student, setup.task)
        found = generated_rows(setup.train, lambda batch: self.generated(batch, self.places(batch)), read, tokenizer)
        write_generated_rows(folder / GENERATED_ROWS, found)

    def entry(self, sums: list[float]) -> dict[str, Any] | None:
        """Of the student's turns: generated rows, the share of filled places whose token is another one than before,
        and the share of rows on which student and teacher predict the same class; of the generator's turns: their rows,
        and the mean of what it maximises. What an epoch had no turn for, or a regression has not, is None."""
        found = dict(zip(SUMS, sums, strict=True))
        rows, places, own_rows = found["rows"], found["places"], found["generator_rows"]
        if not (rows or own_rows):
            return None
        classes = rows and self.parts.setup.task.kind.has_classes
        return {
            "rows": int(rows),
            "generator_rows": int(own_rows),
            "changed_tokens": found["changed"] / places if places else None,
            "agreement": found["agreeing"] / rows if classes else None,
            "objective": found["objective"] / own_rows if own_rows else None,
        }

    def line(self, entry: Mapping[str, Any]) -> str:
        changed, objective = entry["changed_tokens"], entry["objective"]
        parts = [f"{entry['rows']:,} generated rows"]
        parts += [] if changed is None else [f"{changed:.0%} of masked tokens changed"]
        parts += [] if objective is None else [f"the generator's objective {objective:.3g}"]
        return ", ".join(parts)

    def cost(self, entry: Mapping[str, Any]) -> Cost:
        """The rows of the student's turns are augmented; each live teacher reads those of all turns."""
        read = entry["rows"] + entry["generator_rows"]
        return Cost(entry["rows"], read * len(self.teachers.models))


def _written(ids_BT: Tensor, flat_M: Tensor, tokens_M: Tensor) -> Tensor:
    """[B, T]: the ids with these tokens at the places ``flat_M`` of the flattened batch."""
    return ids_BT.flatten().index_copy(0, flat_M, tokens_M).view_as(ids_BT)


def _filled(model: nn.Module, ids_BT: Tensor, flat_M: Tensor, choice_MV: Tensor) -> Tensor:
    """[B, T, E]: the model's word embeddings of the ids, and at ``flat_M`` those of the choices, with their gradient.
    None reaches the model's table."""
    with torch.no_grad():
        embeds_BTE = embed(model, ids_BT)
    chosen_ME = embed_one_hot(model, choice_MV).to(embeds_BTE.dtype)
    flat = embeds_BTE.reshape(-1, embeds_BTE.shape[-1]).index_copy(0, flat_M, chosen_ME)
    return flat.view_as(embeds_BTE)


def distance_of(plan: EpochPlan) -> TeacherTerm:
    """The term on the teacher's logits of an epoch with generated rows, with weight 1."""
    term = teacher_term(plan.terms)
    assert term is not None
    return replace(term, weight=1.0)


def generator_objective(term: TeacherTerm, student_BC: Tensor, teacher_BC: Tensor, settings: WithGenerator) -> Tensor:
    """[B]: the distance between student and teacher, or with ``objective: cross-entropy`` the cross-entropy: for
    tau^2 KL, tau^2 times the entropy of the teacher's softened outputs more. Other distances have none to add."""
    distance_B = term.distance(student_BC, teacher_BC)
    if settings.objective == "divergence" or not isinstance(term, SoftTerm):
        return distance_B
    logarithms_BC = (teacher_BC / term.temperature).log_softmax(-1)
    entropy_B = -(logarithms_BC.exp() * logarithms_BC).sum(-1) * term.temperature**2
    return distance_B + (entropy_B / student_BC.shape[1] if term.reduction == "mean" else entropy_B)
