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

CRF_HEAD = "stillhouse-crf"
"""The ``model_type`` in the ``config.json`` of a token classifier with a CRF."""

CRF_HEAD_NAME: Head = "crf"
"""The head of such a model in recipes."""

MEAN_HEAD_VARIANT = "mean_head"
"""The variant, as transformers calls it, under which such an encoder's weights are saved: in
``model.mean_head.safetensors``. The ``Auto`` classes of transformers refuse the ``model_type``; a concrete class, such
as ``BertForSequenceClassification``, does not read that field, and raises OSError because it finds no weights."""

ENCODER_TYPE = "encoder_type"
"""The field of such a ``config.json`` that holds the encoder's own ``model_type``."""

SEQUENCE_CLASSIFIER = "AutoModelForSequenceClassification"
TOKEN_CLASSIFIER = "AutoModelForTokenClassification"
"""The classes of transformers that load models which label rows, and models which label words."""

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
    ``HEAD_FIELD`` where the file describes a mean head or a CRF. Raises ValueError if such a file names no encoder."""
    kind = document.get("model_type")
    if kind not in (MEAN_HEAD, CRF_HEAD):
        return document
    encoder = document.get(ENCODER_TYPE)
    if not isinstance(encoder, str):
        raise ValueError(f"config.json has model_type: {kind}, but no {ENCODER_TYPE}; give the file that was saved")
    rest = {name: value for name, value in document.items() if name != ENCODER_TYPE}
    return {**rest, "model_type": encoder, HEAD_FIELD: "mean" if kind == MEAN_HEAD else CRF_HEAD_NAME}


def head_of(config: Mapping[str, object]) -> Head | None:
    """The head of a model with this ``encoder_config``, or the one that it gets as a classifier; None for a head that
    reads neither the first token nor the mean of all tokens, such as a decoder's."""
    model_type = config.get("model_type")
    if config.get(HEAD_FIELD) == "mean":
        return "mean"
    if config.get(HEAD_FIELD) == CRF_HEAD_NAME:
        return CRF_HEAD_NAME
    if model_type in POOLING_VALUES:
        values, pooling = POOLING_VALUES[str(model_type)], with_defaults(config).get(POOLING_FIELD)
        return next((head for head, value in values.items() if value == pooling), None)
    return "cls" if model_type in READS_FIRST_TOKEN else None


def has_token_labels(directory: Path) -> bool:
    """Whether the ``config.json`` in a directory names a model that labels tokens, as transformers' token classifiers
    do."""
    document = json.loads((directory / "config.json").read_text("utf-8"))
    architectures = document.get("architectures") if isinstance(document, dict) else None
    return isinstance(architectures, list) and any("ForTokenClassification" in str(name) for name in architectures)


def check_head(model_type: str, head: Head) -> None:
    """Raise ValueError if a model of this architecture cannot have the head that a recipe asks for, and for one that is
    in none of the tables of this module and of ``stages.models.architectures``, such as one that a newer transformers
    has: what its head reads, and whether it has states to average, is not known here."""
    if model_type in POOLING_VALUES or head == CRF_HEAD_NAME:
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
    load: a mean head, a CRF, a BiLSTM, or a network for images."""
    own = model_type == BILSTM or model_type in NETWORK_TYPES or head == CRF_HEAD_NAME
    return own or (head == "mean" and model_type not in POOLING_VALUES)


def loads_with(model_type: str, head: Head | None, words: bool = False) -> str:
    """The function that loads a saved model of this architecture with this head. ``words``: it labels words."""
    if is_own_class(model_type, head):
        return "stillhouse.load_model"
    if model_type in CLASSIFIES_IMAGES:
        return "transformers.AutoModelForImageClassification.from_pretrained"
    return f"transformers.{TOKEN_CLASSIFIER if words else SEQUENCE_CLASSIFIER}.from_pretrained"


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
