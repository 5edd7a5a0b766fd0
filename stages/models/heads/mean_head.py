"""Encoders with a classification head that reads the mean of the last layer's token states.

A class is made for each architecture from the architecture's own base class, so that names, initialisation and
conversion of weights are the architecture's.
"""

import inspect
import json
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, cast

from torch import Tensor, nn
from transformers import CONFIG_MAPPING, MODEL_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.loss.loss_utils import ForSequenceClassificationLoss
from transformers.modeling_outputs import SequenceClassifierOutput

from stages.models.embeddings.inputs import first_token_mask
from stages.models.forward import pooled_state
from stages.models.heads.kinds import ENCODER_TYPE, MEAN_HEAD, MEAN_HEAD_VARIANT, head_of
from stages.specs.student import Head

DROPOUT_FIELDS = (
    "classifier_dropout",
    "classifier_dropout_prob",
    "cls_dropout",
    "seq_classif_dropout",
    "hidden_dropout_prob",
    "hidden_dropout",
    "dropout",
)
"""Fields of a configuration for the dropout before a classifier; the first that holds a number is used."""


class MeanForSequenceClassification(PreTrainedModel):
    """An encoder without pooler, the masked mean of its last states in float32, dropout, and a linear classifier.

    ``mean_classifier`` has a name that no head of transformers has, so that the weights of another head are never
    loaded into it. ``encoder_class`` is set by the subclasses that ``mean_head_class`` makes.
    """

    encoder_class: ClassVar[type[PreTrainedModel]]

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.num_labels = cast(int, config.num_labels)
        setattr(self, self.base_model_prefix, _without_pooler(self.encoder_class, config))
        self.dropout = nn.Dropout(_dropout(config))
        self.mean_classifier = nn.Linear(_output_width(config), self.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Logits [B, C], with the encoder's hidden states and attention maps where they are requested, and a loss
        where there are labels. Without ``attention_mask``, all tokens count. The encoder's other arguments are passed
        on, such as ``inputs_embeds`` [B, T, E] in the place of ``input_ids`` (``stages.models.embeddings``)."""
        if token_type_ids is not None:
            kwargs["token_type_ids"] = token_type_ids
        if self.config.model_type == "longformer":
            given = kwargs["inputs_embeds"] if input_ids is None else input_ids
            kwargs["global_attention_mask"] = first_token_mask(given)
        encoder = getattr(self, self.base_model_prefix)
        found = encoder(input_ids=input_ids, attention_mask=attention_mask, **{**kwargs, "return_dict": True})
        states_BTH = found.last_hidden_state
        mask_BT = states_BTH.new_ones(states_BTH.shape[:2]) if attention_mask is None else attention_mask
        logits_BC = self.mean_classifier(self.dropout(pooled_state(states_BTH, mask_BT, "mean")))
        return SequenceClassifierOutput(
            loss=None if labels is None else ForSequenceClassificationLoss(labels, logits_BC, self.config),
            logits=logits_BC,
            hidden_states=getattr(found, "hidden_states", None),
            attentions=getattr(found, "attentions", None),
        )

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As in transformers, but for the names of the files with weights, which have the variant
        ``MEAN_HEAD_VARIANT``, and for the ``model_type`` in ``config.json``, which is ``MEAN_HEAD``; that of the
        encoder becomes the field ``ENCODER_TYPE``."""
        super().save_pretrained(save_directory, *args, **{"variant": MEAN_HEAD_VARIANT, **kwargs})
        path = Path(save_directory) / "config.json"
        document = json.loads(path.read_text("utf-8"))
        document |= {ENCODER_TYPE: document["model_type"], "model_type": MEAN_HEAD}
        path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", "utf-8")


@cache
def mean_head_class(model_type: str) -> type[MeanForSequenceClassification]:
    """The class of models with a mean head, for an architecture of transformers."""
    found: Any = MODEL_MAPPING[CONFIG_MAPPING[model_type]]
    encoder_class: type[PreTrainedModel] = found[0] if isinstance(found, tuple) else found
    family = next(one for one in encoder_class.__mro__[1:] if issubclass(one, PreTrainedModel))
    name = f"{encoder_class.__name__.removesuffix('Model')}{MeanForSequenceClassification.__name__}"
    # transformers reads off the source of a class's module which implementations of attention the model may use.
    attributes = {"encoder_class": encoder_class, "__module__": encoder_class.__module__}
    return cast(type[MeanForSequenceClassification], type(name, (MeanForSequenceClassification, family), attributes))


def head_of_model(model: PreTrainedModel) -> Head | None:
    """The kind of the classification head of a model, as ``head_of`` gives it for a configuration."""
    return "mean" if isinstance(model, MeanForSequenceClassification) else head_of(model.config.to_dict())


def _without_pooler(encoder_class: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    """An encoder with no parameters that the mean of its states does not depend on: workers that train together wait
    for the gradient of every parameter."""
    if "add_pooling_layer" in inspect.signature(encoder_class.__init__).parameters:
        return encoder_class(config, add_pooling_layer=False)
    encoder = encoder_class(config)
    if isinstance(getattr(encoder, "pooler", None), nn.Module):
        encoder.pooler = nn.Identity()
    return encoder


def _output_width(config: PreTrainedConfig) -> int:
    """The width of the encoder's last states. OPT projects those of its layers to that of its word embeddings."""
    return int(getattr(config, "word_embed_proj_dim", config.hidden_size))


def _dropout(config: PreTrainedConfig) -> float:
    found = (getattr(config, name, None) for name in DROPOUT_FIELDS)
    return next((float(rate) for rate in found if isinstance(rate, int | float)), 0.0)
