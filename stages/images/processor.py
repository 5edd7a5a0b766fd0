"""The image processor beside the weights of a model, ``preprocessor_config.json``, as transformers reads it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.images.statistics import Normalisation

RESCALED = 1 / 255


def processor_document(normalisation: Normalisation, height: int, width: int) -> dict[str, Any]:
    """The content of the file: pixels are divided by 255, then normalised; images have one size and keep it."""
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": False,
        "do_rescale": True,
        "rescale_factor": RESCALED,
        "do_normalize": True,
        "image_mean": list(normalisation.mean),
        "image_std": list(normalisation.std),
        "size": {"height": height, "width": width},
    }


def normalisation_in(path: Path, channels: int) -> Normalisation:
    """How the file at ``path`` normalises pixels. ValueError for one that cannot be read, that scales pixels otherwise
    than by 1 / 255, or that is for another number of channels."""
    try:
        found: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
        factor = float(found.get("rescale_factor", RESCALED))
        plain = not found.get("do_normalize", True)
        mean, std = ([0.0] * channels, [1.0] * channels) if plain else (found["image_mean"], found["image_std"])
        read = Normalisation(tuple(map(float, mean)), tuple(map(float, std)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); give the file that was saved with the model") from error
    if abs(factor - RESCALED) > 1e-9 or not found.get("do_rescale", True):
        raise ValueError(f"{path}: pixels are not divided by 255, as they are here; give another model")
    if {len(read.mean), len(read.std)} != {channels} or min(read.std) <= 0:
        raise ValueError(f"{path}: normalises {len(read.mean)} channels, and images have {channels}; give another")
    return read
