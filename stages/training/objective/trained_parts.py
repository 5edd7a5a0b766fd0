"""The parts of a training whose weights change, the student and its layer matcher, and the loss of a batch."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from stages.corpus.rowset import Batch
from stages.models.forward import forward, pooled_state, width
from stages.models.predict import autocast
from stages.specs.layers import NoLayers
from stages.specs.schedule import LossWeights
from stages.specs.seeds import seed_of
from stages.training.checkpoint import State
from stages.training.losses import logit_terms, weighted_sum
from stages.training.objective.matching import LayerMatcher, States
from stages.training.objective.relations import Workers
from stages.training.setup import EpochPlan, LoopWorker, TrainingSetup

PARTS = ("student", "projections")
"""The names in a checkpoint of the parts that ``TrainedParts`` holds."""


class BatchLoss(NamedTuple):
    """The weighted ``loss`` [B] of the rows of a batch, and its terms (name -> [B]) before weighting; where layers of
    the student attend to the teacher's, ``attention`` [B, groups] is the largest weight of each, row by row."""

    loss: Tensor
    terms: dict[str, Tensor]
    attention: Tensor | None = None


class TrainedParts:
    """The student and the layer matcher with its projections, on one worker's device.

    ``model`` is the student itself, and ``wrapped`` what a step calls: the student under data parallelism, compiled if
    the spec says so. ``all`` is a module that holds every trained parameter, the student's first.
    """

    def __init__(self, model: nn.Module, setup: TrainingSetup, worker: LoopWorker) -> None:
        """Moves ``model`` to the worker's device. The initial projections follow from the spec's seed."""
        settings = setup.spec.train
        self.setup = setup
        self.worker = worker
        self.model = model.to(worker.device).train()
        self.structure = setup.spec.method.structure
        torch.manual_seed(seed_of(settings.seed))
        matcher = LayerMatcher(self.structure, width(model), setup.teacher_width, setup.task.outputs)
        self.matcher = matcher.to(worker.device)
        self.all = nn.ModuleDict({"student": model, "matcher": self.matcher})
        distributed = worker.world_size > 1
        # DDP overlaps the reduction of gradients with the backward pass.
        self.parallel = nn.parallel.DistributedDataParallel(model, forward_sync_buffers=False) if distributed else None
        wrapped: nn.Module = self.parallel or model
        self.wrapped = cast(nn.Module, torch.compile(wrapped, dynamic=True)) if settings.compile else wrapped

    def states(self) -> dict[str, State]:
        """The state of each part, by the names in ``PARTS``."""
        return {"student": self.model.state_dict(), "projections": self.matcher.state_dict()}

    def load_states(self, states: Mapping[str, State]) -> None:
        """Set the parts to ``states``, which may hold further parts."""
        self.model.load_state_dict(states["student"])
        self.matcher.load_state_dict(states["projections"])

    def loss(self, batch: Batch, rows: int, epoch_plan: EpochPlan) -> BatchLoss:
        """The loss of these rows of this worker. ``rows`` is the size of the global batch. Hidden states are computed
        only in epochs in which layers have a weight."""
        weights = epoch_plan.weights
        with autocast(self.worker.device, self.setup.spec.train.precision):
            logits, hidden = forward(self.wrapped, batch.inputs, hidden=bool(weights.layers))
        outputs = self._outputs(batch, epoch_plan)
        terms = self._logit_terms(logits, batch, outputs, weights)
        loss_B = weighted_sum(terms, weights)
        if not weights.layers:
            return BatchLoss(loss_B, terms)
        states = self._pooled(hidden, batch)
        error_B = self._layer_error(states, outputs, rows, epoch_plan)
        temperature = epoch_plan.attention_temperature
        largest_BG = self.matcher.largest_weights(states, outputs, epoch_plan.groups, temperature)
        return BatchLoss(loss_B + weights.layers * error_B, terms | {"layers": error_B}, largest_BG)

    def compared_terms(self, batch: Batch, rows: int, epoch_plan: EpochPlan) -> tuple[Tensor, Tensor]:
        """([B], [B]): the labels' term and the layers' term of these rows in float32, each with weight 1. The weights
        of ``epoch_plan`` are those of ``compared_weights``. The student runs outside of data parallelism."""
        logits, hidden = forward(self.model, batch.inputs, hidden=True)
        outputs = self._outputs(batch, epoch_plan)
        (labels_B,) = self._logit_terms(logits, batch, outputs, epoch_plan.weights).values()
        return labels_B, self._layer_error(self._pooled(hidden, batch), outputs, rows, epoch_plan)

    def _outputs(self, batch: Batch, epoch_plan: EpochPlan) -> Mapping[str, Tensor]:
        """The teachers' outputs for the batch that the epoch needs, by name."""
        return self.setup.signal(batch, epoch_plan.request) if epoch_plan.request else {}

    def _logit_terms(
        self, logits: Tensor, batch: Batch, outputs: Mapping[str, Tensor], weights: LossWeights
    ) -> dict[str, Tensor]:
        """Name -> [B]: the terms on logits and labels that have a weight, in float32."""
        method, regression = self.setup.spec.method, self.setup.task.regression
        return logit_terms(logits.float(), batch.labels, outputs, method, weights, regression)

    def _pooled(self, hidden: Sequence[Tensor], batch: Batch) -> States:
        """The pooled states of the student's matched layers, from the states ``hidden`` [B, T, H] of its embeddings and
        of each layer."""
        assert not isinstance(self.structure, NoLayers)
        mask, pooling = batch.inputs["attention_mask"], self.structure.pooling
        return {layer: pooled_state(hidden[layer], mask, pooling) for layer in self.matcher.student_layers}

    def _layer_error(self, states: States, outputs: Mapping[str, Tensor], rows: int, epoch_plan: EpochPlan) -> Tensor:
        """[B]: the layer loss of rows with these pooled states. ``rows`` is the size of the global batch."""
        workers = Workers(self.worker.rank, self.worker.world_size, rows)
        error: Tensor = self.matcher(states, outputs, epoch_plan.groups, workers, epoch_plan.attention_temperature)
        return error

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
