"""A masked language model as the teacher of another one, and the losses that compare the two (Sanh et al. 2019,
DistilBERT, a distilled version of BERT).

Shapes: A tokens of a worker's rows that are not padding, V tokens of the vocabulary, H the width of the states.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from stages.models.masked.language_model import PlacePredictor, Prediction
from stages.models.predict import autocast
from stages.specs.axes.losses import soft_cross_entropy


class MaskedTeacher:
    """A masked language model that reads the inputs of another one's training. It is in evaluation mode, computes no
    gradients and is never changed."""

    def __init__(self, model: PreTrainedModel, device: str, precision: str) -> None:
        """Moves ``model`` to ``device``. ``precision`` is that of the training."""
        self.predictor = PlacePredictor(model)
        nn.Module.to(self.predictor, device).eval().requires_grad_(False)
        self.device, self.precision = device, precision

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, Tensor], places_A: Tensor) -> Prediction:
        """The teacher's prediction at these places of the flattened batch."""
        with autocast(self.device, self.precision):
            return cast(Prediction, self.predictor(inputs, places_A))


def soft_losses(student_AV: Tensor, teacher_AV: Tensor, temperature: float) -> Tensor:
    """[A]: ``soft_cross_entropy`` of each token. A model may have word embeddings for more tokens than its tokenizer
    has, to fill a round number: the logits are compared that both models have."""
    tokens = min(student_AV.shape[1], teacher_AV.shape[1])
    return soft_cross_entropy(student_AV[:, :tokens].float(), teacher_AV[:, :tokens].float(), temperature)


def cosine_losses(student_AH: Tensor, teacher_AH: Tensor) -> Tensor:
    """[A]: 1 - cos(h_S, h_T) of each token: ``CosineEmbeddingLoss`` with the target 1."""
    return 1 - functional.cosine_similarity(student_AH.float(), teacher_AH.float(), dim=-1)
