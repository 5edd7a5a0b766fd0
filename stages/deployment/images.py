"""Predicts the labels of images with a finished model: of the files in a folder, or of a column of a Parquet file."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from stages.corpus.reader import PROCESSOR_FILE
from stages.deployment.classifier import FloatLogits
from stages.images.decode import Channels
from stages.images.pixel_rows import PIXEL_VALUES
from stages.images.processor import normalisation_in
from stages.images.rows import ImageSource, decoded_rows
from stages.images.sources.class_folders import folder_images, is_image
from stages.images.sources.parquet import parquet_images
from stages.images.statistics import Normalisation
from stages.models.shape import config_of


@dataclass(frozen=True, slots=True)
class ReadImages:
    """The images that a model reads: their channels, height and width (None: any), and how pixels are normalised."""

    channels: Channels
    size: tuple[int, int] | None
    normalisation: Normalisation


def images_read_by(directory: Path) -> ReadImages:
    """What the model in ``directory`` reads, by its ``config.json`` and its ``preprocessor_config.json``. Raises
    ValueError for a model without them, or of images that are read in another way."""
    channels = config_of(directory).get("num_channels", 3)
    if channels not in (1, 3):
        raise ValueError(f"{directory}: reads images of {channels} channels; give a model of 1 or 3")
    path = directory / PROCESSOR_FILE
    normalisation = normalisation_in(path, channels)
    size = json.loads(path.read_text("utf-8")).get("size")
    given = (size.get("height"), size.get("width")) if isinstance(size, dict) else (None, None)
    known = (given[0], given[1]) if isinstance(given[0], int) and isinstance(given[1], int) else None
    return ReadImages(1 if channels == 1 else 3, known, normalisation)


def images_in(place: Path, column: str) -> ImageSource:
    """The images of a folder and the folders below it, of one image file, or of ``column`` of a Parquet file. Raises
    ValueError where there are none."""
    return folder_images(place) if place.is_dir() or is_image(place) else parquet_images(place, column)


def count_images(source: ImageSource, read: ReadImages) -> int:
    """The number of images, all of which were decoded. Raises ValueError for images that cannot be used, and for those
    of another size than the model reads."""
    count = 0
    for row, pixels in decoded_rows(source, read.channels):
        count += 1
        if read.size is not None and pixels.shape[1:] != read.size:
            own, wanted = (" x ".join(map(str, size)) for size in (pixels.shape[1:], read.size))
            raise ValueError(
                f"{source.origin}: {row.place} has {own} (height x width), and the model reads {wanted}; resize the "
                "images as those it was trained on were"
            )
    return count


def image_logits(
    directory: Path, source: ImageSource, read: ReadImages, device: str, threads: int
) -> Iterator[tuple[Sequence[str], FloatLogits]]:
    """The places and the logits [B, outputs] of the images of ``source``, batch by batch, in order. Raises ValueError
    for a model that does not load."""
    import torch

    from stages.models.forward import forward, pass_cost
    from stages.models.loading import load

    torch.set_num_threads(threads)
    model = load(directory).to(device).eval()  # type: ignore[arg-type]
    rows = decoded_rows(source, read.channels)
    while batch := list(islice(rows, pass_cost(model, device, threads))):
        pixels = read.normalisation.applied(np.stack([pixels for _, pixels in batch]))
        with torch.inference_mode():
            logits = forward(model, {PIXEL_VALUES: torch.from_numpy(pixels).to(device)}).logits
        yield [row.place for row, _ in batch], logits.float().cpu().numpy()
