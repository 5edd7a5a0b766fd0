"""Token classifiers: encoders of transformers with a head that gives a logit for each tag at each token."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from stages.models.bilstm import BILSTM
from stages.models.cutting import cut_layers
from stages.models.heads import has_token_labels
from stages.models.loading import check_finite_weights, quieten, read_config, read_weights
from stages.models.shape import config_of
from stages.saved_weights import weights_that_load


def build_token_classifier(
    directory: Path, labels: Sequence[str], layers: Sequence[int] | None = None
) -> PreTrainedModel:
    """A token classifier in float32 before its first step, with the weights of the model in ``directory`` and an output
    for each label, in this order.

    ``layers`` are the encoder layers to keep, counted from 0, in this order; None keeps all. If the directory holds a
    token classifier for the same labels, its head is kept, with the outputs in the order of ``labels``. Otherwise the
    head is random: seed torch before the call.

    Raises ValueError for an architecture without token classification, for weights that do not load, are missing or are
    not finite, and for a layer that the model lacks.
    """
    quieten()
    check_architecture(directory)
    names = tuple(saved_labels(directory)) if has_token_labels(directory) else None
    order = None if names is None or set(names) != set(labels) else [names.index(label) for label in labels]
    model, random = _load(directory, labels)
    if order is None:
        _renew_head(model)
    else:
        _reorder_head(model, order)
    replaceable = _head_names(model) if order is None else set()
    lacking = [name for name in random if name not in replaceable and "pooler" not in name]
    if lacking:
        raise ValueError(
            f"{directory}: the weights lack {lacking[0]} in the shape that config.json gives it, and "
            f"{len(lacking) - 1} more; give the model's own weights"
        )
    check_finite_weights(model, directory)
    return model if layers is None else cut_layers(model, layers)


def load_token_classifier(directory: Path) -> PreTrainedModel:
    """A finished token classifier in float32, with its labels as ``saved_labels`` gives them. Raises ValueError where
    the directory holds none, or one that lacks weights."""
    quieten()
    check_architecture(directory)
    if not has_token_labels(directory):
        raise ValueError(f"{directory} holds no token classifier; give a directory in which one was saved")
    return build_token_classifier(directory, saved_labels(directory))


def check_architecture(directory: Path) -> None:
    """Raise ValueError for a model of an architecture that has no token classifier in transformers."""
    model_type = str(config_of(directory)["model_type"])
    known = model_type in CONFIG_MAPPING and CONFIG_MAPPING[model_type] in MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING
    if model_type == BILSTM or not known:
        raise ValueError(
            f"{directory}: transformers has no token classifier of the architecture {model_type}; "
            "start from an encoder, such as a BERT"
        )


def saved_labels(directory: Path) -> tuple[str, ...]:
    """The names of a classifier's outputs in their order; () where its ``config.json`` names none."""
    given = config_of(directory).get("id2label")
    return tuple(str(given[place]) for place in sorted(given, key=int)) if isinstance(given, Mapping) else ()


def label_fields(labels: Sequence[str]) -> dict[str, object]:
    """The fields of a model configuration that define a head for these labels."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {name: number for number, name in enumerate(labels)},
    }


def _load(directory: Path, labels: Sequence[str]) -> tuple[PreTrainedModel, list[str]]:
    config, _ = read_config(directory, label_fields(labels))
    with weights_that_load(directory):
        return read_weights(AutoModelForTokenClassification, directory, config=config)


# --- the head -----------------------------------------------------------------------------------------------


def _head_modules(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """The parts of a token classifier beside its encoder."""
    return [(name, part) for name, part in model.named_children() if name != model.base_model_prefix]


def _head_names(model: PreTrainedModel) -> set[str]:
    return {f"{name}.{weight}" for name, part in _head_modules(model) for weight, _ in part.named_parameters()}


def _output_layer(model: PreTrainedModel) -> nn.Linear:
    """The linear layer that gives the logits."""
    linear = [part for _, head in _head_modules(model) for part in head.modules() if isinstance(part, nn.Linear)]
    return linear[-1]


def _renew_head(model: PreTrainedModel) -> None:
    """Random weights for the head, as its architecture initialises them: a head for other labels of the same number
    would be loaded under the names of these."""
    layer = _output_layer(model)
    with torch.no_grad():
        layer.weight.normal_(0.0, float(getattr(model.config, "initializer_range", 0.02)))
        if layer.bias is not None:
            layer.bias.zero_()


def _reorder_head(model: PreTrainedModel, order: Sequence[int]) -> None:
    """Change the head so that its output i is the previous output ``order[i]``."""
    layer = _output_layer(model)
    with torch.no_grad():
        layer.weight.copy_(layer.weight[list(order)])
        if layer.bias is not None:
            layer.bias.copy_(layer.bias[list(order)])
