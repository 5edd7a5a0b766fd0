"""The parts of a training whose weights change, the student and its layer matcher, and the loss of a batch."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from stages.corpus.rowset import Batch
from stages.device_turn import TURN
from stages.models.adapters.protocol import ForwardOutputs
from stages.models.embeddings.words import unwrapped, word_embeddings
from stages.models.forward import forward, pooled_state, recorded_scores, widths
from stages.models.passes.cast_weights import CastWeights
from stages.models.passes.unpadded import compute_tokens_only
from stages.models.predict import autocast
from stages.specs.axes.kinds import TaskKind
from stages.specs.axes.structures import LayerStructure
from stages.specs.axes.terms import LayerTerm, Term, Terms, layer_term, weighted_sum
from stages.specs.layers import EveryToken
from stages.specs.schedule import EpochPlan
from stages.specs.seeds import seed_of
from stages.training.checkpoint import State
from stages.training.objective.matching import LayerMatcher, MatchedRows, States, Widths, matcher_of
from stages.training.objective.relations import Workers
from stages.training.setup import LoopWorker, TrainingSetup

PARTS = ("student", "projections")
"""The names in a checkpoint of the parts that ``TrainedParts`` holds."""


class BatchLoss(NamedTuple):
    """The weighted ``loss`` [B] of the rows of a batch, its terms (name -> [B]) before weighting, and the student's
    ``logits`` [B, C]; where layers of the student attend to the teacher's, ``attention`` has their weights, as
    ``LayerMatcher.attention_weights`` gives them."""

    loss: Tensor
    terms: dict[str, Tensor]
    logits: Tensor
    attention: Tensor | None = None


@dataclass(frozen=True, slots=True)
class ComparedRows:
    """What the terms compare (``terms.Compared``) for the rows of a batch: the student's ``logits`` [B, C] in float32,
    the ``states`` of its matched layers and its attention ``scores`` (as in ``MatchedRows``), the ``labels``, the
    ``mask`` [B, T] of positions (None: all count), and the ``outputs`` of the teachers by name. ``entries`` and
    ``own_loss`` are the ``entries`` and the ``label_loss`` of the student's ``ForwardOutputs``; with entries, logits
    are [B, W, C] and labels [B, W]."""

    logits: Tensor
    labels: Tensor
    kind: TaskKind
    outputs: Mapping[str, Tensor]
    matcher: LayerMatcher
    states: States
    workers: Workers
    mask: Tensor | None
    scores: Mapping[int, Tensor] = field(default_factory=dict)
    entries: Tensor | None = None
    own_loss: Callable[[Tensor], Tensor] | None = None

    @property
    def label_loss(self) -> Tensor:
        """[B]: the task's own loss of each row, or the model's where it has one; [B, W] of each entry."""
        return self.kind.loss(self.logits, self.labels) if self.own_loss is None else self.own_loss(self.labels)

    def row_values(self, term: Term) -> Tensor:
        """[B]: the value of a term for each row."""
        return self.kind.row_values(term.value(self), self.entries)

    @property
    def teacher_logits(self) -> Tensor:
        """[B, C]: the teachers' logits."""
        return self.outputs["logits"]

    def layer_error(self, term: LayerTerm) -> Tensor:
        """[B]: the layer loss of each row."""
        error: Tensor = self.matcher(self._matched(term))
        return error

    def attention_weights(self, term: LayerTerm) -> Tensor | None:
        """The weights of attention to the teacher's layers, as ``LayerMatcher.attention_weights`` gives them."""
        return self.matcher.attention_weights(self._matched(term))

    def _matched(self, term: LayerTerm) -> MatchedRows:
        return MatchedRows(
            self.states, self.outputs, term.groups, self.workers, term.temperature, self.mask, self.scores
        )


class TrainedParts:
    """The student and the layer matcher with its projections, on one worker's device.

    ``model`` is the student itself, and ``wrapped`` what a step calls: the student under data parallelism, compiled if
    the spec says so, or on a GPU in bfloat16 with its weights cast at once. ``all`` is a module that holds every
    trained parameter, the student's first.
    """

    def __init__(self, model: nn.Module, setup: TrainingSetup, worker: LoopWorker) -> None:
        """Moves ``model`` to the worker's device. The initial projections follow from the spec's seed."""
        settings = setup.spec.train
        self.setup = setup
        self.worker = worker
        self.model = model.to(worker.device).train()
        self.structure = setup.spec.method.structure
        self.records_scores = isinstance(self.structure, EveryToken) and self.structure.scores
        if self.records_scores:
            unwrapped(model).set_attn_implementation("eager")  # the other implementations never form the scores
        if settings.unpadded:
            compute_tokens_only(unwrapped(model))
        if "embeddings" in settings.freeze:
            word_embeddings(model).requires_grad_(False)
        matched = Widths(widths(model), setup.teacher_widths, setup.task.outputs)
        with TURN:
            torch.manual_seed(seed_of(settings.seed))
            self.matcher = matcher_of(self.structure, matched).to(worker.device)
        self.all = nn.ModuleDict({"student": model, "matcher": self.matcher})
        distributed = worker.world_size > 1
        # DDP overlaps the reduction of gradients with the backward pass.
        self.parallel = nn.parallel.DistributedDataParallel(model, forward_sync_buffers=False) if distributed else None
        self.wrapped = self._wrapped(self.parallel or model)

    def _wrapped(self, model: nn.Module) -> nn.Module:
        settings = self.setup.spec.train
        if settings.compile:
            return cast(nn.Module, torch.compile(model, dynamic=True))  # which merges the casts by itself
        on_gpu = self.worker.device.startswith("cuda")
        # The gradients of weights that are cast at once arrive together, too late to be reduced behind the backward.
        return CastWeights(model) if on_gpu and settings.precision != "float32" and self.parallel is None else model

    def states(self) -> dict[str, State]:
        """The state of each part, by the names in ``PARTS``."""
        return {"student": self.model.state_dict(), "projections": self.matcher.state_dict()}

    def load_states(self, states: Mapping[str, State]) -> None:
        """Set the parts to ``states``, which may hold further parts."""
        self.model.load_state_dict(states["student"])
        self.matcher.load_state_dict(states["projections"])

    def agree_on_buffers(self) -> None:
        """Give all workers the first one's buffers, such as the running statistics of a batch normalisation, of which
        each worker has gathered its own."""
        for buffer in self.model.buffers() if self.parallel is not None else ():
            torch.distributed.broadcast(buffer, src=0)

    def loss(self, batch: Batch, rows: int, plan: EpochPlan) -> BatchLoss:
        """The loss of these rows of this worker. ``rows`` is the size of the global batch. Hidden states are computed
        only in epochs in which layers are matched."""
        layers = layer_term(plan.terms)
        with (
            autocast(self.worker.device, self.setup.spec.train.precision),
            self._recorded(layers is not None) as scores,
        ):
            outputs = forward(self.wrapped, batch.inputs, hidden=layers is not None)
        compared = self._compared(outputs, scores, batch, rows, plan)
        values = [compared.row_values(term) for term in plan.terms]
        by_name = {term.name: value_B for term, value_B in zip(plan.terms, values, strict=True)}
        attention = compared.attention_weights(layers) if layers is not None else None
        loss = weighted_sum(plan.terms, values)
        if not self.setup.spec.method.training.trains_logits(plan.position.phase):
            # Every parameter has a gradient, which data parallelism waits for; those of the head have 0.
            loss = loss + 0.0 * compared.logits.flatten(1).sum(-1)
        return BatchLoss(loss, by_name, compared.logits, attention)

    def other_loss(self, batch: Batch, terms: Terms, teacher_BC: Tensor, name: str) -> BatchLoss:
        """The loss of these rows by ``terms``, none of which needs layers, as a single term called ``name``.
        ``teacher_BC`` are the teachers' logits for them."""
        with autocast(self.worker.device, self.setup.spec.train.precision):
            found = forward(self.wrapped, batch.inputs)
        workers = Workers()
        outputs = {"logits": teacher_BC}
        compared = ComparedRows(
            found.logits.float(),
            batch.labels,
            self.setup.task.kind,
            outputs,
            self.matcher,
            {},
            workers,
            found.mask,
            entries=found.entries,
            own_loss=found.label_loss,
        )
        loss_B = weighted_sum(terms, [compared.row_values(term) for term in terms])
        return BatchLoss(loss_B, {name: loss_B}, compared.logits)

    def term_values(self, batch: Batch, rows: int, plan: EpochPlan) -> list[Tensor]:
        """The value [B] of each term of ``plan`` for these rows, before weighting and in float32. The student runs
        outside of data parallelism, and gives all hidden states."""
        with self._recorded(True) as scores:
            outputs = forward(self.model, batch.inputs, hidden=True)
        compared = self._compared(outputs, scores, batch, rows, plan)
        return [compared.row_values(term) for term in plan.terms]

    def _recorded(self, matched: bool) -> AbstractContextManager[Sequence[Tensor]]:
        """A context for a forward pass: the attention scores of each of the student's layers, if they are needed where
        layers are ``matched``; else ()."""
        return recorded_scores(self.model) if matched and self.records_scores else nullcontext(())

    def _compared(
        self,
        found: ForwardOutputs,
        scores: Sequence[Tensor],
        batch: Batch,
        rows: int,
        plan: EpochPlan,
    ) -> ComparedRows:
        """What the terms of ``plan`` compare, from the student's outputs for the batch."""
        outputs = self.setup.signal(batch, plan.request) if plan.request else {}
        states = self._states(found) if layer_term(plan.terms) is not None else {}
        workers = Workers(self.worker.rank, self.worker.world_size, rows)
        return ComparedRows(
            found.logits.float(),
            batch.labels,
            self.setup.task.kind,
            outputs,
            self.matcher,
            states,
            workers,
            found.mask,
            dict(enumerate(scores, 1)),
            found.entries,
            found.label_loss,
        )

    def _states(self, found: ForwardOutputs) -> States:
        """The states of the student's matched layers as its structure compares them."""
        if isinstance(self.structure, EveryToken):
            return {layer: found.states[layer] for layer in self.matcher.student_layers}
        assert isinstance(self.structure, LayerStructure)
        mask, pooling = found.mask, self.structure.pooling
        return {layer: pooled_state(found.states[layer], mask, pooling) for layer in self.matcher.student_layers}

    def gradient_sync(self, last: bool) -> AbstractContextManager[None]:
        """A context for a backward pass: gradients are synchronised between workers in the last pass of a step only."""
        return nullcontext() if self.parallel is None or last else self.parallel.no_sync()

    def average_projection_gradients(self) -> None:
        """Average the gradients of the projections over workers, as DDP does for the student's. They have none in a
        phase without layers."""
        for parameter in self.matcher.parameters() if self.parallel is not None else ():
            if parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= self.worker.world_size
