"""The objective of general distillation: the student's pooled states are compared with the stored ones of its teacher
(Jiao et al. 2020, TinyBERT, section 3.2, with pooled states in the place of those of every token).

A step: batch -> encoder -> pooled states of its embeddings and layers -> the matcher of the structure, with its
projections -> mean over the rows. No token is masked, and no model but the student runs. Shapes: B rows of a worker.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from cluster.resources import Worker
from stages.corpus.batches import Rows, share_of
from stages.corpus.rowset import Batch, Rowset
from stages.device_turn import TURN
from stages.models.forward import encoder_states, pooled_state, widths
from stages.models.predict import autocast
from stages.pretraining.objective import Objective, PretrainingSetup
from stages.pretraining.progress import HeldOutScore
from stages.specs.layer_map import LayerGroup, teacher_layers
from stages.specs.pretraining import PooledStates
from stages.specs.schedule import OutputRequest
from stages.specs.seeds import seed_of
from stages.training.objective.layer_losses import TeacherOutputs
from stages.training.objective.matching import MatchedRows, Widths, matcher_of
from stages.training.objective.relations import Workers
from stages.training.signal import Signal

PROBE_ROWS = 2
"""The rows of the pass that finds the parameters without a gradient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSetup(PretrainingSetup):
    """The inputs of a training on stored states: beside those of every pretraining, the teacher's states for the rows
    of ``texts`` and of ``held_out``, and their width."""

    stored: Signal
    stored_held_out: Signal
    teacher_widths: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class StateBatch:
    """A worker's rows of a batch with the teacher's states for them. ``weight`` is 1, or 0 for the placeholder row of a
    worker without rows of its own; ``total`` is the number of rows of all workers."""

    batch: Batch
    weight: float
    total: int

    @property
    def rows(self) -> int:
        """The number of rows that this worker reads."""
        return len(self.batch.rows)

    def pinned(self) -> "StateBatch":
        """The batch in pinned memory, from which a GPU can copy while it computes."""
        return replace(self, batch=self.batch.pinned())

    def to(self, device: str) -> "StateBatch":
        """The batch on ``device``. A copy from pinned memory is asynchronous."""
        return replace(self, batch=self.batch.to(device))


class StateStudent(nn.Module):
    """An encoder and the matcher of its states, with the matcher's projections."""

    def __init__(
        self, encoder: PreTrainedModel, states: PooledStates, teacher: Mapping[int, int], device: str, precision: str
    ) -> None:
        """The initial weights of projections come from torch's generator. ``precision`` is that of the encoder's
        forward passes; states are compared in float32."""
        super().__init__()
        self.encoder, self.device, self.precision = encoder, device, precision
        self.pooling = states.pooling
        self.matcher = matcher_of(states, Widths(widths(encoder), teacher, 0))

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        outputs: TeacherOutputs,
        groups: Sequence[LayerGroup],
        workers: Workers,
        temperature: float,
    ) -> Tensor:
        """[B]: the loss of each row, from the teacher's states in ``outputs`` by ``state_name``."""
        with autocast(self.device, self.precision):
            hidden = encoder_states(self.encoder, inputs)
        mask = inputs["attention_mask"]
        pooled = {layer: pooled_state(hidden[layer], mask, self.pooling) for layer in self.matcher.student_layers}
        losses: Tensor = self.matcher(MatchedRows(pooled, outputs, groups, workers, temperature, mask))
        return losses


class StateObjective(Objective[StateBatch]):
    """The distance of an encoder's pooled states from the stored ones of its teacher. Parameters that have no gradient,
    such as those of a pooler and of layers above the highest that is compared, are frozen."""

    held_out_figures = 2

    def __init__(self, encoder: PreTrainedModel, setup: StateSetup, worker: Worker) -> None:
        """Moves ``encoder`` to the worker's device. The initial projections follow from the spec's seed."""
        super().__init__(setup, worker)
        spec = setup.spec
        assert spec.states is not None and not isinstance(spec.states.weight, str)
        self.stored, self.held_out_states, self.states = setup.stored, setup.stored_held_out, spec.states
        with TURN:
            torch.manual_seed(seed_of(spec.seed))
            self.student = StateStudent(encoder, spec.states, setup.teacher_widths, worker.device, spec.precision)
        self.student.to(worker.device)
        self._freeze_unused()
        self.student.train()
        self.module = self.student
        self.parts = {"model": encoder, "projections": self.student.matcher}
        self.weights = (spec.states.weight,)

    @property
    def trained(self) -> nn.Module:
        return self.student

    def _freeze_unused(self) -> None:
        """Freeze the parameters that get no gradient: data parallelism would wait for it. Draws no random number."""
        rows = np.arange(min(PROBE_ROWS, len(self.setup.texts)))
        self.student.eval()
        batch = self._batch(self.setup.texts, self.stored, rows, 0).to(self.worker.device)
        workers, first = Workers(rows=len(rows)), self._temperature(0)
        self._losses(self.student, batch, self._groups(0), workers, first).sum().backward()
        for parameter in self.student.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None

    def _groups(self, epoch: int) -> Sequence[LayerGroup]:
        """The layers that are compared in an epoch, counted from 0."""
        return self.states.groups_at(self.setup.spec.seed, 0, epoch)

    def _batch(self, texts: Rowset, stored: Signal, rows: Rows, epoch: int) -> Batch:
        """These rows with the teacher's states that an epoch compares, in host memory."""
        request = OutputRequest(layers=teacher_layers(self._groups(epoch)))
        return replace(texts.batch(rows, "cpu"), read=stored.read(rows, request))

    def _losses(
        self,
        module: nn.Module,
        batch: Batch,
        groups: Sequence[LayerGroup],
        workers: Workers,
        temperature: float,
    ) -> Tensor:
        """[B]: the loss of each row of a batch on the worker's device."""
        outputs = {name: values.float() for name, values in batch.read.items()}
        losses: Tensor = module(batch.inputs, outputs, groups, workers, temperature)
        return losses

    def _temperature(self, epoch: int) -> float:
        """That of attention to layers in an epoch, counted from 0."""
        return self.states.attention_temperature(epoch, self.setup.spec.epochs)

    def step_batch(self, rows: Rows, epoch: int, _step: int, /) -> StateBatch:
        share = share_of(rows, self.worker.rank, self.worker.world_size)
        batch = self._batch(self.setup.texts, self.stored, share.rows, epoch)
        return StateBatch(batch, share.weight, len(rows))

    def counts(self, batch: StateBatch, /) -> Sequence[int]:
        """The rows of the batch."""
        return (batch.total,)

    def loss_sums(self, module: nn.Module, batch: StateBatch, epoch: int, /) -> Sequence[Tensor]:
        workers = Workers(self.worker.rank, self.worker.world_size, batch.total)
        losses_B = self._losses(module, batch.batch, self._groups(epoch), workers, self._temperature(epoch))
        return [losses_B.sum() * batch.weight]

    def held_out_sums(self, rows: Rows, _number: int, /) -> Tensor:
        """The losses and the number of rows. Where layers are drawn again in each epoch, those of the first one are
        compared, and attention has the temperature of the last, so that scores of different epochs are of one loss."""
        batch = self._batch(self.setup.held_out, self.held_out_states, rows, 0).to(self.worker.device)
        workers, last = Workers(rows=len(rows)), self._temperature(self.setup.spec.epochs - 1)
        losses = self._losses(self.student, batch, self._groups(0), workers, last).double().sum()
        return torch.stack([losses, losses.new_tensor(float(len(rows)))])

    def score_of(self, sums: Sequence[float], /) -> HeldOutScore:
        """The mean loss of a row."""
        loss, rows = sums
        return HeldOutScore(loss / rows)
