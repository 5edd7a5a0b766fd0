"""``stillhouse predict`` with a model of images: the labels of the images in a folder, or in a Parquet file."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.cli.models.find_model import FoundModel
from pipeline.cli.models.prediction_table import check_target, write_table
from pipeline.errors import RequestError, refused
from stages.deployment.images import ReadImages, count_images, image_logits, images_in, images_read_by
from stages.deployment.predictions import Line, lines_of
from stages.images.rows import ImageSource
from stages.specs.tasks import Task

USUAL_COLUMN = "image"


def predict_images(model: FoundModel, place: Path, column: str | None, out: Path | None) -> None:
    """Predict for each image of ``place``, a folder, an image or a Parquet file, and write the predictions to ``out``,
    or as CSV to the standard output; for files, with their names. ``column`` is that of a Parquet file, None for that
    of the model's task. Raises RequestError, before any work, for what is wrong with the request."""
    check_target(out)
    if not place.exists():
        raise RequestError(f"FILE: there is no {place}; give a folder of images, an image, or a Parquet file")
    task = model.description().task
    with refused("MODEL"):
        read = images_read_by(model.directory)
    with refused("FILE"):
        source = images_in(place, column or task.image or USUAL_COLUMN)
        count = count_images(source, read)
    with refused("MODEL"):
        write_table(_lines(model, task, source, read), count, task, out, source.of_files)


def _lines(model: FoundModel, task: Task, source: ImageSource, read: ReadImages) -> Iterator[Sequence[Line]]:
    """The lines of each batch, with the names of files first where the images are files."""
    from stages.deployment.classifier import best_device

    for places, logits in image_logits(model.directory, source, read, best_device(), os.cpu_count() or 1):
        lines = lines_of(task, logits)
        yield [(name, *line) for name, line in zip(places, lines, strict=True)] if source.of_files else lines
