"""The objective of a masked language model: the tokens that it predicts, and with a teacher the distance from another
masked language model that reads the same batch.

A step: batch -> tokens chosen and replaced -> encoder -> head at the chosen places -> negative log-likelihood. With a
teacher, the head runs at all places, and the distances of the two models' probabilities and last states are added
(``MaskedDistillation``). Masks do not depend on the number of workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from cluster.resources import Worker
from stages.corpus.batches import Rows
from stages.models.masked.language_model import PlacePredictor, Prediction
from stages.models.masked.token_ids import TokenIds
from stages.models.predict import autocast
from stages.pretraining.distillation import MaskedTeacher, cosine_losses, soft_losses
from stages.pretraining.masking import MaskedBatch, masked_batch
from stages.pretraining.objective import HELD_OUT_ROWS, HELD_OUT_TOKENS, Objective, PretrainingSetup
from stages.pretraining.progress import HeldOutScore, TeacherLosses
from stages.specs.seeds import seed_of


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedSetup(PretrainingSetup):
    """The inputs of the training of a masked language model: beside those of every pretraining, the ids of special
    tokens, and the model that teaches where the spec has ``distillation``."""

    tokens: TokenIds
    teacher: PreTrainedModel | None = None


class MaskedObjective(Objective[MaskedBatch]):
    """The losses of a masked language model: of the predicted tokens, and with a teacher of the probabilities and of
    the last states at all tokens."""

    held_out_figures = 3

    def __init__(self, model: PreTrainedModel, setup: MaskedSetup, worker: Worker) -> None:
        """Moves ``model``, and the teacher if there is one, to the worker's device."""
        super().__init__(setup, worker)
        self.masked = setup
        self.model = model
        self.predictor = PlacePredictor(model)
        nn.Module.to(self.predictor, worker.device).train()
        self.module, self.parts = self.predictor, {"model": model}
        given, self.distillation = setup.teacher, setup.spec.distillation
        self.teacher = None if given is None else MaskedTeacher(given, worker.device, setup.spec.precision)
        taught = self.distillation
        self.weights = (1.0,) if taught is None else (taught.masked, taught.soft, taught.cosine)

    @property
    def trained(self) -> nn.Module:
        return self.model

    def step_batch(self, rows: Rows, epoch: int, step: int, /) -> MaskedBatch:
        setup, worker = self.masked, self.worker
        seed = seed_of(setup.spec.seed, epoch, step)
        return masked_batch(setup.texts, rows, setup.spec.masking, setup.tokens, seed, worker.rank, worker.world_size)

    def counts(self, batch: MaskedBatch, /) -> Sequence[int]:
        """The predicted tokens, and for each of the two distances from a teacher all tokens."""
        return (batch.predicted, batch.tokens, batch.tokens)[: len(self.weights)]

    def loss_sums(self, module: nn.Module, batch: MaskedBatch, _epoch: int, /) -> Sequence[Tensor]:
        distillation = self.distillation
        places = batch.places if self.teacher is None else batch.attended
        with autocast(self.worker.device, self.setup.spec.precision):
            found: Prediction = module(batch.inputs, places)
        if self.teacher is None or distillation is None:
            return [_masked_loss_sum(found.logits, batch.targets)]
        taught = self.teacher(batch.inputs, places)
        predicted = torch.searchsorted(places, batch.places)  # among the attended places, which rise as these do
        soft = soft_losses(found.logits, taught.logits, distillation.temperature).sum()
        cosine = cosine_losses(found.states, taught.states).sum() if distillation.cosine else torch.zeros_like(soft)
        return [_masked_loss_sum(found.logits[predicted], batch.targets), soft, cosine]

    def teacher_losses(self, means: Sequence[float], /) -> TeacherLosses | None:
        if self.distillation is None:
            return None
        soft, cosine = means
        return TeacherLosses(soft, cosine if self.distillation.cosine else None)

    def held_out_sums(self, rows: Rows, number: int, /) -> Tensor:
        """The losses, the right predictions and the number of the tokens that are predicted, the same each time."""
        worker, setup = self.worker, self.masked
        seed = seed_of(setup.spec.seed, number, HELD_OUT_ROWS, HELD_OUT_TOKENS, 1)
        batch = masked_batch(setup.held_out, rows, setup.spec.masking, setup.tokens, seed).to(worker.device)
        with autocast(worker.device, setup.spec.precision):
            logits_MV = self.predictor(batch.inputs, batch.places).logits
        losses = _masked_loss_sum(logits_MV, batch.targets).double()
        right = (logits_MV.argmax(1) == batch.targets).sum()
        return torch.stack([losses, right.double(), losses.new_tensor(float(batch.predicted))])

    def score_of(self, sums: Sequence[float], /) -> HeldOutScore:
        """Raises ValueError if no token was predicted."""
        loss, right_count, predicted = sums
        if not predicted:
            raise ValueError("the held-out texts consist of special tokens alone; give other texts")
        return HeldOutScore(loss / predicted, 100 * right_count / predicted)


def _masked_loss_sum(logits_MV: Tensor, targets_M: Tensor) -> Tensor:
    """The sum of the negative log-likelihoods of these tokens, in float32."""
    return nn.functional.cross_entropy(logits_MV.float(), targets_M, reduction="sum")
