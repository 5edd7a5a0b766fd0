"""Models with the head that a task needs: one for rows, or one for their words."""

from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForTokenClassification, PreTrainedModel

from stages.models import loading
from stages.models.heads import CRF_HEAD_NAME, has_token_labels
from stages.models.loading import kinds_of_layers, quieten, read_config
from stages.models.tagging.classifier import (
    build_token_classifier,
    label_fields,
    load_token_classifier,
)
from stages.models.tagging.crf_classifier import build_crf_classifier, crf_class, has_crf, load_crf_classifier
from stages.specs.student import Bilstm, Cut, Fresh, Network, Pretrained, Start
from stages.specs.tasks import Task


def build(start: Start, directory: Path | None, task: Task, corpus: Path | None = None) -> PreTrainedModel:
    """The student before its first step, with a head for ``task``. Seed torch before the call. A ``Network`` has no
    directory, and reads the images of ``corpus``. Raises ValueError as ``loading.build`` and ``build_token_classifier``
    do."""
    if not task.kind.has_entries:
        return loading.build(start, directory, task, corpus)
    assert task.labels is not None
    quieten()
    if isinstance(start, Bilstm | Network):
        raise ValueError("start: a BiLSTM or a network for images gives no logits of words; start from an encoder")
    assert directory is not None, "an encoder has an input"
    match start:
        case Fresh():
            return _random_classifier(start, directory, task.labels)
        case Pretrained():
            layers = None
        case Cut():
            layers = start.layers
    if has_crf(directory) or start.head == CRF_HEAD_NAME:
        return build_crf_classifier(directory, task.labels, layers)
    return build_token_classifier(directory, task.labels, layers)


def load(directory: Path) -> PreTrainedModel:
    """The finished model in ``directory`` in float32, with its own head. Raises ValueError if it does not load."""
    if has_crf(directory):
        return load_crf_classifier(directory)
    return load_token_classifier(directory) if has_token_labels(directory) else loading.load(directory)


def _random_classifier(start: Fresh, directory: Path, labels: tuple[str, ...]) -> PreTrainedModel:
    """A token classifier with random weights, from the configuration in ``directory`` with the changes of ``start``."""
    changes = dict(start.changes)
    config, unknown = read_config(directory, {**changes, **kinds_of_layers(directory, changes), **label_fields(labels)})
    if unknown:
        raise ValueError(f"config.{min(unknown)}: the configuration of {config.model_type} has no such field")
    made: Any = AutoModelForTokenClassification
    if start.head == CRF_HEAD_NAME:
        return cast(PreTrainedModel, crf_class(config.model_type)._from_config(config, dtype=torch.float32))
    return cast(PreTrainedModel, made.from_config(config, dtype=torch.float32))
