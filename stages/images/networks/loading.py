"""Make a network for small images, and load one that was saved."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedConfig

from stages.images.networks.description import NETWORK_TYPES, NETWORK_VARIANT, PLAIN_CNN, RESNET, shape_in
from stages.images.networks.network import ImageNetwork
from stages.images.networks.plain_cnn import PlainCnnConfig, PlainCnnForImageClassification
from stages.images.networks.resnet import CifarResnetConfig, CifarResnetForImageClassification
from stages.saved_weights import load_saved, weights_that_load

CLASSES: Mapping[str, tuple[type[PreTrainedConfig], type[ImageNetwork]]] = {
    RESNET: (CifarResnetConfig, CifarResnetForImageClassification),
    PLAIN_CNN: (PlainCnnConfig, PlainCnnForImageClassification),
}
"""``model_type`` -> the classes of its configuration and of its model."""


def new_network(config: PreTrainedConfig) -> ImageNetwork:
    """A network in float32 whose weights come from torch's generator: seed it before the call. Raises ValueError where
    the configuration fits no network."""
    _, model_class = CLASSES[config.model_type]
    return cast(ImageNetwork, model_class._from_config(config, dtype=torch.float32))


def load_network(directory: Path, **changes: Any) -> ImageNetwork:
    """The network that ``save_pretrained`` wrote to ``directory``, in float32 and in evaluation mode. ``changes`` are
    fields of its configuration that are to have other values; a classifier of another size than the saved one has
    weights of torch's generator.

    Raises ValueError where the directory holds no such network, where its weights cannot be read, and where any are
    missing: without ``changes`` all must be there, with them all but the classifier's.
    """
    path = directory / "config.json"
    try:
        document = json.loads(path.read_text("utf-8"))
        shape_in(document)
    except OSError as error:
        raise ValueError(f"{directory}: no config.json here; give the directory of a model") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"no field {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise ValueError(
            f"{path}: does not describe a network for images ({reason}); its model_type is to be one of "
            f"{', '.join(NETWORK_TYPES)}"
        ) from error
    config_class, model_class = CLASSES[document["model_type"]]
    with weights_that_load(directory, RuntimeError):
        config = config_class.from_dict({**document, **changes})
        model, random = load_saved(model_class, directory, NETWORK_VARIANT, config=config, ignore_mismatched_sizes=True)
    lacking = [name for name in random if not changes or not name.startswith("classifier.")]
    if lacking:
        raise ValueError(
            f"{directory}: the weights lack {lacking[0]} in the shape that config.json gives it, and "
            f"{len(lacking) - 1} more; give the model's own weights"
        )
    return cast(ImageNetwork, model.eval())
