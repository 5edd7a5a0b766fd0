"""Predicts the labels of the rows of a file with a finished model."""

import os
from collections.abc import Callable
from pathlib import Path

from stages.deployment.classifier import RowClassifier, best_device, open_classifier
from stages.deployment.description import ModelDescription, is_onnx
from stages.deployment.predictions import PredictionWriter, lines_of
from stages.deployment.rows import read_texts


def open_model(directory: Path, max_length: int) -> RowClassifier:
    """The model in ``directory`` with its tokenizer, on a GPU where there is one and else with all cores. Raises
    ValueError for a model that does not load."""
    from stages.models.adapters.text import tokens_per_pass

    device = "cpu" if is_onnx(directory) else best_device()
    classifier = open_classifier(directory, device)
    return RowClassifier(classifier, directory, max_length, tokens_per_pass(device, os.cpu_count() or 1))


def predict_file(
    model: RowClassifier,
    path: Path,
    description: ModelDescription,
    writer: PredictionWriter,
    advance: Callable[[int], None],
) -> None:
    """Write a prediction for each row of the file, in the order of its rows. ``advance`` is called with the number of
    rows whenever some are done. The file must be one that ``count_rows`` found good."""
    for texts in read_texts(path, description):
        writer.write(lines_of(description.task, model.logits(texts)))
        advance(len(texts))
