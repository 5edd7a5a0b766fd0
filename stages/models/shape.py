"""Depth and width of a model, read from its ``config.json`` without transformers, so that planning stays light."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.images.networks.description import NETWORK_TYPES, NetworkShape, shape_in
from stages.models.architectures import CLASSIFIES_IMAGES, VISION_TRANSFORMERS
from stages.models.config_fields import with_defaults
from stages.models.heads import encoder_config
from stages.specs.student import Bilstm, Cut, Fresh, Network, Pretrained, Start

WIDTHS = ("hidden_size", "dim", "d_model")
HEADS = ("num_attention_heads", "n_heads")
DEPTHS = ("num_hidden_layers", "n_layers", "num_layers")


@dataclass(frozen=True, slots=True)
class Shape:
    """``layers`` encoder layers of width ``width`` with ``heads`` attention heads each; ``heads`` is 0 if neither the
    configuration nor the architecture's defaults have such a field. A BiLSTM has 0 layers: it has no states of layers
    to store or to match. ``widths`` are those of the embeddings and of each layer where they differ, as in a
    convolutional network, of which ``width`` is the last; () where all are ``width``."""

    layers: int
    width: int
    heads: int = 0
    widths: tuple[int, ...] = ()


def shape_of(config: Mapping[str, object], where: str) -> Shape:
    """The shape in a model's configuration. ``where`` is its file, for messages. A classifier of images whose layers
    differ in width has no layers here, unless it is a network of this project. Raises ValueError if the configuration
    has no field of depth or of width."""
    model_type = config.get("model_type")
    if model_type in NETWORK_TYPES:
        return shape_of_network(shape_in(config))
    if model_type in CLASSIFIES_IMAGES and model_type not in VISION_TRANSFORMERS:
        return Shape(0, 1)
    fields = with_defaults(config)
    heads = [int(fields[name]) for name in HEADS if isinstance(fields.get(name), int)]  # type: ignore[call-overload]
    return Shape(_first(config, DEPTHS, where), _first(config, WIDTHS, where), (heads or [0])[0])


def shape_of_network(found: NetworkShape) -> Shape:
    """The shape of a network for small images: the stem is layer 0, and each stage or block a layer."""
    return Shape(len(found.widths) - 1, found.widths[-1], 0, found.widths)


def started_shape(start: Start, given: Shape) -> Shape:
    """The shape of a student with this start, made from a model of shape ``given``."""
    match start:
        case Cut(layers=layers):
            return Shape(len(layers), given.width, given.heads)
        case Fresh(changes=changes):
            depths = [int(value) for name, value in changes if name in DEPTHS]
            widths = [int(value) for name, value in changes if name in WIDTHS]
            heads = [int(value) for name, value in changes if name in HEADS]
            return Shape((depths or [given.layers])[-1], (widths or [given.width])[-1], (heads or [given.heads])[-1])
        case Pretrained() | Network():
            return given
        case Bilstm(hidden=hidden):
            return Shape(0, hidden)


def _first(config: Mapping[str, object], names: tuple[str, ...], where: str) -> int:
    """The first whole number among these fields. Raises ValueError if there is none."""
    for name in names:
        value = config.get(name)
        if isinstance(value, int):
            return value
    raise ValueError(f"{where}: config.json names none of {', '.join(names)}; give an encoder's own configuration")


def config_of(directory: Path) -> Mapping[str, object]:
    """The content of ``config.json`` of the model in ``directory``, as ``encoder_config`` gives it. Raises ValueError
    if it is no block of fields."""
    document = json.loads((directory / "config.json").read_text("utf-8"))
    if not isinstance(document, dict):
        raise ValueError("it holds no block of fields")
    return encoder_config(document)
