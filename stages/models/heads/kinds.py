"""Which states of the last layer a model's classification head reads, from its ``config.json`` alone.

``cls``: the state of the first token, as the heads of most encoders do. ``mean``: the mean of the states of all tokens.
Some architectures have a field for it in their configuration. For all others, a model with a mean head is saved under a
``model_type`` of its own and its weights under a file name of their own, so that transformers refuses the directory
instead of giving the encoder an untrained head of its own kind; ``stages.models.loading`` loads it.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from stages.images.networks.description import NETWORK_TYPES
from stages.models.architectures import CLASSIFIES_IMAGES, READS_FIRST_TOKEN, READS_OTHER_STATES, WITHOUT_TOKEN_STATES
from stages.models.bilstm import BILSTM
from stages.models.config_fields import with_defaults
from stages.specs.student import Head

MEAN_HEAD = "stillhouse-mean-head"
"""The ``model_type`` in the ``config.json`` of an encoder with a mean head."""

MEAN_HEAD_VARIANT = "mean_head"
"""The variant, as transformers calls it, under which such an encoder's weights are saved: in
``model.mean_head.safetensors``. The ``Auto`` classes of transformers refuse the ``model_type``; a concrete class, such
as ``BertForSequenceClassification``, does not read that field, and raises OSError because it finds no weights."""

ENCODER_TYPE = "encoder_type"
"""The field of such a ``config.json`` that holds the encoder's own ``model_type``."""

HEAD_FIELD = "stillhouse_head"
"""The field that ``encoder_config`` adds to the configuration of an encoder with a mean head."""

POOLING_FIELD = "classifier_pooling"

POOLING_VALUES: Mapping[str, Mapping[Head, str]] = {
    "eurobert": {"cls": "bos", "mean": "mean"},
    "modernbert": {"cls": "cls", "mean": "mean"},
    "ultrabert": {"cls": "cls", "mean": "mean"},
}
"""Architectures whose classification head is chosen by ``classifier_pooling``: head -> the value of that field."""


def encoder_config(document: Mapping[str, object]) -> Mapping[str, object]:
    """The content of a ``config.json`` as that of its encoder: with the encoder's own ``model_type``, and with
    ``HEAD_FIELD`` where the file describes a mean head. Raises ValueError if such a file names no encoder."""
    if document.get("model_type") != MEAN_HEAD:
        return document
    encoder = document.get(ENCODER_TYPE)
    if not isinstance(encoder, str):
        raise ValueError(
            f"config.json has model_type: {MEAN_HEAD}, but no {ENCODER_TYPE}; give the file that was saved"
        )
    rest = {name: value for name, value in document.items() if name != ENCODER_TYPE}
    return {**rest, "model_type": encoder, HEAD_FIELD: "mean"}


def head_of(config: Mapping[str, object]) -> Head | None:
    """The head of a model with this ``encoder_config``, or the one that it gets as a classifier; None for a head that
    reads neither the first token nor the mean of all tokens, such as a decoder's."""
    model_type = config.get("model_type")
    if config.get(HEAD_FIELD) == "mean":
        return "mean"
    if model_type in POOLING_VALUES:
        values, pooling = POOLING_VALUES[str(model_type)], with_defaults(config).get(POOLING_FIELD)
        return next((head for head, value in values.items() if value == pooling), None)
    return "cls" if model_type in READS_FIRST_TOKEN else None


def check_head(model_type: str, head: Head) -> None:
    """Raise ValueError if a model of this architecture cannot have the head that a recipe asks for, and for one that is
    in none of the tables of this module and of ``stages.models.architectures``, such as one that a newer transformers
    has: what its head reads, and whether it has states to average, is not known here."""
    if model_type in POOLING_VALUES:
        return
    if head == "cls" and model_type not in READS_FIRST_TOKEN:
        raise ValueError(
            f"head: cls, but the classification head of {model_type} does not read the first token; leave head out, "
            "which keeps the architecture's own head"
        )
    if head == "mean" and model_type not in (*READS_FIRST_TOKEN, *READS_OTHER_STATES):
        reason = WITHOUT_TOKEN_STATES.get(model_type, "is not known here to have one state for each token")
        raise ValueError(
            f"head: mean, but {model_type} {reason}; leave head out, which keeps the architecture's own head"
        )


def changed_head(wanted: Head | None, given: Head | None) -> Head | None:
    """The field ``head`` of a start: the head that a recipe asks for, None where the model has it already (``given``)
    or the recipe asks for none."""
    return None if wanted == given else wanted


def is_own_class(model_type: str, head: Head | None) -> bool:
    """Whether a model of this architecture with this head is of a class of this project, which transformers does not
    load: a mean head, a BiLSTM, or a network for images."""
    return model_type == BILSTM or model_type in NETWORK_TYPES or (head == "mean" and model_type not in POOLING_VALUES)


def loads_with(model_type: str, head: Head | None) -> str:
    """The function that loads a saved model of this architecture with this head."""
    if is_own_class(model_type, head):
        return "stillhouse.load_model"
    if model_type in CLASSIFIES_IMAGES:
        return "transformers.AutoModelForImageClassification.from_pretrained"
    return "transformers.AutoModelForSequenceClassification.from_pretrained"


def trained_with_mean_pooling(directory: Path) -> bool:
    """Whether the files of the model in ``directory`` say that it is a sentence encoder whose vectors are the mean of
    the states of all tokens, and of nothing else (sentence-transformers' ``1_Pooling/config.json``)."""
    try:
        document = json.loads((directory / "1_Pooling" / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(document, dict):
        return False
    modes = {name for name, value in document.items() if name.startswith("pooling_mode_") and value is True}
    return modes == {"pooling_mode_mean_tokens"} or document.get("pooling_mode") == "mean"
