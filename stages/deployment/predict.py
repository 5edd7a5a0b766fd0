"""Predicts the labels of the rows of a file with a finished model, in this process or in the workers of a place.

Both compute the same passes: a chunk of rows, and the passes into which it is divided, depend on the file and on the
kind of device alone, never on the number of workers or threads.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.resources import On, Worker
from stages.deployment.classifier import FloatLogits, RowClassifier, best_device, open_classifier
from stages.deployment.description import is_onnx
from stages.deployment.rows import TextChunks, TextRow


def open_model(directory: Path, max_length: int) -> RowClassifier:
    """The model in ``directory`` with its tokenizer, on a GPU where there is one and else with all cores. Raises
    ValueError for a model that does not load."""
    from stages.models.adapters.text import tokens_per_pass

    device = "cpu" if is_onnx(directory) else best_device()
    classifier = open_classifier(directory, device)
    return RowClassifier(classifier, directory, max_length, tokens_per_pass(device, os.cpu_count() or 1))


def open_reproducible(directory: Path, max_length: int, device: str, threads: int) -> RowClassifier:
    """As ``open_model``, with the same bits whatever the number of ``threads``: on a CPU each pass is computed by one
    thread, as many passes at a time as there are threads. For this process, PyTorch is set to one thread."""
    from stages.models.adapters.text import tokens_per_pass

    device = "cpu" if is_onnx(directory) else device
    on_cpu = device == "cpu"
    classifier = open_classifier(directory, device, 1 if on_cpu else None)
    return RowClassifier(classifier, directory, max_length, tokens_per_pass(device), threads if on_cpu else 1)


@dataclass(frozen=True, slots=True)
class PredictionJob:
    """What a worker predicts with: the directory of a model, which it sees at the same path, and the tokens of a
    row."""

    directory: Path
    max_length: int


def open_predictions(job: PredictionJob, worker: Worker) -> Callable[[list[TextRow]], FloatLogits]:
    """Load the model once a worker; return what computes the logits of a chunk of rows."""
    return open_reproducible(job.directory, job.max_length, worker.device, worker.threads).logits


def logits_here(model: RowClassifier, chunks: TextChunks) -> Iterator[FloatLogits]:
    """The logits [rows, outputs] of each chunk, in order, computed in this process."""
    for number in range(len(chunks)):
        yield model.logits(chunks[number])
        chunks.forget(number)


def logits_of_workers(on: On, job: PredictionJob, chunks: TextChunks) -> Iterator[FloatLogits]:
    """The logits [rows, outputs] of each chunk, in order, computed in the workers of ``on``. Those that are done before
    an earlier one are kept until it is."""
    done: dict[int, FloatLogits] = {}
    following = 0
    for number, logits in on.map(open_predictions, job, chunks):
        chunks.forget(number)
        done[number] = logits
        while following in done:
            yield done.pop(following)
            following += 1
