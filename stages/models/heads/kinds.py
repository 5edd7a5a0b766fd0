"""Which states of the last layer a model's classification head reads, from its ``config.json`` alone.

``cls``: the state of the first token, as the heads of most encoders do. ``mean``: the mean of the states of all tokens.
Some architectures have a field for it in their configuration. For all others, a model with a mean head is saved under a
``model_type`` of its own and its weights under a file name of their own, so that transformers refuses the directory
instead of giving the encoder an untrained head of its own kind; ``stages.models.loading`` loads it.
"""

import json
from collections.abc import Mapping
from pathlib import Path

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

READS_FIRST_TOKEN = (
    "albert",
    "bert",
    "big_bird",
    "camembert",
    "convbert",
    "data2vec-text",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "ernie",
    "esm",
    "esmc",
    "flaubert",
    "fnet",
    "gte",
    "ibert",
    "jina_embeddings_v3",
    "layoutlm",
    "layoutlmv3",
    "lilt",
    "longformer",
    "luke",
    "markuplm",
    "megatron-bert",
    "mobilebert",
    "mpnet",
    "mra",
    "nomic_bert",
    "nystromformer",
    "rembert",
    "roberta",
    "roberta-prelayernorm",
    "roc_bert",
    "roformer",
    "squeezebert",
    "tapas",
    "xlm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
    "yoso",
)
"""Architectures whose classification head reads the state of the first token, with no field to choose another."""

READS_OTHER_STATES = (
    "arcee",
    "axk1",
    "axk2",
    "biogpt",
    "bloom",
    "canine",
    "cohere_compass_text",
    "ctrl",
    "deepseek_v2",
    "deepseek_v3",
    "diffllama",
    "doge",
    "exaone4",
    "falcon",
    "gemma",
    "gemma2",
    "gemma3_text",
    "glm",
    "glm4",
    "gpt-sw3",
    "gpt2",
    "gpt_bigcode",
    "gpt_neo",
    "gpt_neox",
    "gpt_oss",
    "gptj",
    "helium",
    "hunyuan_v1_dense",
    "hunyuan_v1_moe",
    "jamba",
    "jetmoe",
    "llama",
    "minicpm3",
    "minimax",
    "ministral",
    "ministral3",
    "mistral",
    "mistral4",
    "mixtral",
    "modernbert-decoder",
    "mpt",
    "nemotron",
    "olmo",
    "olmo2",
    "olmo3",
    "openai-gpt",
    "opt",
    "persimmon",
    "phi",
    "phi3",
    "phimoe",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_5_text",
    "qwen3_moe",
    "qwen3_next",
    "seed_oss",
    "smollm3",
    "stablelm",
    "starcoder2",
    "xlnet",
    "zamba",
    "zamba2",
)
"""Architectures with one state of the last layer for each token, whose classification head reads neither the first
token nor the mean: most read the last token, as decoders do."""

WITHOUT_TOKEN_STATES: Mapping[str, str] = {
    **dict.fromkeys(
        ("bart", "bigbird_pegasus", "mbart", "mt5", "mvp", "plbart", "t5", "t5gemma", "t5gemma2", "umt5"),
        "reads the states of a decoder",
    ),
    **dict.fromkeys(
        ("gemma3", "modernvbert", "qwen3_5", "ultravbert"),
        "reads images beside texts, by a text model whose width is not a field of its own configuration",
    ),
    "funnel": "shortens the sequence of states from layer to layer",
    "layoutlmv2": "has states of image patches among those of the tokens",
    "perceiver": "has states of its latent array and not of the tokens",
    "reformer": "has states of two streams",
}
"""Architectures without one state of the last layer for each token, and what their classifier has instead."""


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
    in none of the tables of this module, such as one that a newer transformers has: what its head reads, and whether it
    has states to average, is not known here."""
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
    load: a mean head, or a BiLSTM."""
    return model_type == BILSTM or (head == "mean" and model_type not in POOLING_VALUES)


def loads_with(model_type: str, head: Head | None) -> str:
    """The function that loads a saved model of this architecture with this head."""
    if is_own_class(model_type, head):
        return "stillhouse.load_model"
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
