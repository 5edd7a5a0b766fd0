"""The objective of a sentence encoder: its sentence embeddings are compared with the stored ones of its teacher.

A step: batch -> encoder -> pooled states of its last layer -> projection, if there is one -> distance from the stored
pooled states of the teacher's last layer -> mean over the texts. No model but the student runs. Shapes: B texts of a
worker, H and D the widths of student and teacher.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

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
from stages.pretraining.embeddings.losses import embedding_losses, held_out_figures
from stages.pretraining.objective import Objective
from stages.pretraining.progress import HeldOutScore
from stages.pretraining.state_objective import PROBE_ROWS, StateBatch, StateSetup
from stages.specs.layers import state_name
from stages.specs.pretraining import SentenceEmbedding
from stages.specs.schedule import OutputRequest
from stages.specs.seeds import seed_of
from stages.training.objective.relations import Workers
from stages.training.signal import Signal


class EmbeddingStudent(nn.Module):
    """An encoder and the projection of its embeddings, None for none."""

    def __init__(
        self, encoder: PreTrainedModel, embedding: SentenceEmbedding, teacher_width: int, device: str, precision: str
    ) -> None:
        """The initial weights of a projection come from torch's generator. ``precision`` is that of the encoder's
        forward passes; embeddings are compared in float32."""
        super().__init__()
        self.encoder, self.embedding, self.device, self.precision = encoder, embedding, device, precision
        own = widths(encoder)[-1]
        self.projection = None if embedding.projection == "none" else nn.Linear(own, teacher_width)

    def forward(self, inputs: Mapping[str, Tensor], teacher_BD: Tensor, workers: Workers) -> Tensor:
        """[B]: the loss of each text, from the pooled states of the teacher's last layer."""
        with autocast(self.device, self.precision):
            hidden = encoder_states(self.encoder, inputs)
        own = pooled_state(hidden[-1], inputs["attention_mask"], self.embedding.pooling)
        own = own if self.projection is None else self.projection(own)
        return embedding_losses(own, teacher_BD, self.embedding, workers)


class EmbeddingObjective(Objective[StateBatch]):
    """The distance of a student's sentence embeddings from the stored ones of its teacher. Parameters without a
    gradient, such as those of a pooler, are frozen."""

    held_out_figures = 2

    def __init__(self, encoder: PreTrainedModel, setup: StateSetup, worker: Worker) -> None:
        """Moves ``encoder`` to the worker's device. The initial projection follows from the spec's seed."""
        super().__init__(setup, worker)
        spec = setup.spec
        assert spec.embedding is not None
        self.stored, self.held_out_states, self.embedding = setup.stored, setup.stored_held_out, spec.embedding
        teacher_width = setup.teacher_widths[spec.embedding.layer]
        with TURN:
            torch.manual_seed(seed_of(spec.seed))
            self.student = EmbeddingStudent(encoder, spec.embedding, teacher_width, worker.device, spec.precision)
        self.student.to(worker.device)
        self._freeze_unused()
        self.student.train()
        self.module = self.student
        projection = self.student.projection
        self.parts = {"model": encoder, **({} if projection is None else {"projection": projection})}
        self.weights = (1.0,)

    @property
    def trained(self) -> nn.Module:
        return self.student

    def _freeze_unused(self) -> None:
        """Freeze the parameters that get no gradient: data parallelism would wait for it. Draws no random number."""
        rows = np.arange(min(PROBE_ROWS, len(self.setup.texts)))
        self.student.eval()
        batch = self._batch(self.setup.texts, self.stored, rows).to(self.worker.device)
        self._losses(self.student, batch, Workers(rows=len(rows))).sum().backward()
        for parameter in self.student.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None

    def _batch(self, texts: Rowset, stored: Signal, rows: Rows) -> Batch:
        """These texts with the teacher's states for them, in host memory."""
        request = OutputRequest(layers=(self.embedding.layer,))
        return replace(texts.batch(rows, "cpu"), read=stored.read(rows, request))

    def _losses(self, module: nn.Module, batch: Batch, workers: Workers) -> Tensor:
        """[B]: the loss of each text of a batch on the worker's device."""
        teacher_BD = batch.read[state_name(self.embedding.layer)].float()
        losses: Tensor = module(batch.inputs, teacher_BD, workers)
        return losses

    def step_batch(self, rows: Rows, _epoch: int, _step: int, /) -> StateBatch:
        share = share_of(rows, self.worker.rank, self.worker.world_size)
        return StateBatch(self._batch(self.setup.texts, self.stored, share.rows), share.weight, len(rows))

    def counts(self, batch: StateBatch, /) -> Sequence[int]:
        """The texts of the batch."""
        return (batch.total,)

    def loss_sums(self, module: nn.Module, batch: StateBatch, _epoch: int, /) -> Sequence[Tensor]:
        workers = Workers(self.worker.rank, self.worker.world_size, batch.total)
        return [self._losses(module, batch.batch, workers).sum() * batch.weight]

    def held_out_sums(self, rows: Rows, _number: int, /) -> Tensor:
        """The losses and the number of texts."""
        batch = self._batch(self.setup.held_out, self.held_out_states, rows).to(self.worker.device)
        return held_out_figures(self._losses(self.student, batch, Workers(rows=len(rows))))

    def score_of(self, sums: Sequence[float], /) -> HeldOutScore:
        """The mean loss of a text."""
        loss, rows = sums
        return HeldOutScore(loss / rows)
