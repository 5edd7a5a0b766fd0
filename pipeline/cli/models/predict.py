"""``stillhouse predict``: labels and probabilities for the rows of a file; of a sentence encoder, embeddings."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.models.embed import check_embeddings_out, check_is_classifier, embed_rows, reads_images
from pipeline.cli.models.find_model import FoundModel
from pipeline.cli.models.prediction_table import check_target, progress_bar, write_table
from pipeline.errors import RequestError, first_line, refused
from stages.deployment.description import ModelDescription
from stages.deployment.predictions import lines_of
from stages.deployment.rows import TextChunks, count_rows, text_columns
from stages.models.sentences import is_sentence_encoder

if TYPE_CHECKING:
    from stages.deployment.classifier import FloatLogits


def predict_rows(
    model: FoundModel, file: Path, text: Sequence[str], image: str | None, out: Path | None, address: str | None
) -> int:
    """Predict for each row of ``file``, and write the predictions to ``out``, or as CSV to the standard output.
    ``text`` names the columns, or ``image`` that of images; without them, the columns of the model's task are taken.
    ``address``: the Ray whose
    workers compute them; None for this process. A sentence encoder gives an embedding for each row, in this process
    alone, and ``out`` must be a Parquet file. Returns the exit code: 1 where the workers fail. Raises RequestError,
    before any work, for what is wrong with the request."""
    if reads_images(model):
        if text or address is not None:
            given = f"--text: {', '.join(text)}, but" if text else "--address:"
            raise RequestError(f"{given} {model.name} reads images, in this process; leave it out")
        from pipeline.cli.models.predict_images import predict_images

        predict_images(model, file, image, out)
        return 0
    if image is not None:
        raise RequestError(f"--image: {image}, but {model.name} reads texts; give --text, or leave it out")
    if is_sentence_encoder(model.directory):
        if address is not None:
            raise RequestError("--address: embeddings are computed in this process alone; leave it out")
        target = check_embeddings_out(out)
        embed_rows(model, file, described(model, file, text), target, progress_bar)
        return 0
    check_is_classifier(model, "predict")
    check_target(out)
    description = described(model, file, text)
    with refused("FILE"):
        rows = count_rows(file, description)
    chunks = TextChunks(file, description, rows)
    from cluster.resources import WorkerDied

    try:
        with _logits(model, description, chunks, address) as logits:
            write_table((lines_of(description.task, chunk) for chunk in logits), rows, description.task, out)
    except (WorkerDied, ConnectionError, TimeoutError) as error:
        if address is None:
            raise
        print(f"stillhouse: --address: {address}: {first_line(error)}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _logits(
    model: FoundModel, description: ModelDescription, chunks: TextChunks, address: str | None
) -> "Iterator[Iterator[FloatLogits]]":
    """The logits of each chunk of rows, in order, computed in this process, or in the workers of the Ray at
    ``address``. Raises RequestError for a model that does not load, and for a Ray that is not there."""
    if address is not None:
        from pipeline.cli.models.spread import spread_over

        with spread_over(address, model, description, chunks) as logits:
            yield logits
        return
    from stages.deployment.classifier import best_device
    from stages.deployment.predict import logits_here, open_reproducible

    with refused("MODEL"):
        opened = open_reproducible(model.directory, description.max_length, best_device(), os.cpu_count() or 1)
    yield logits_here(opened, chunks)


def described(model: FoundModel, file: Path, text: Sequence[str]) -> ModelDescription:
    """What the model is given of ``file``: the columns ``text``, or those of its task. Raises RequestError."""
    if not file.exists():
        raise RequestError(f"FILE: there is no {file}; give a CSV, TSV, JSON lines, Parquet or text file")
    found = model.description()
    with refused("FILE"):
        columns = text_columns(file, found, text)
    with refused("--text"):
        return found if columns == found.task.text else found.with_text(columns)
