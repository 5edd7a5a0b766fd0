"""Depth and width of a model, read from its ``config.json`` without transformers, so that planning stays light."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.models.config_fields import with_defaults
from stages.models.heads import encoder_config
from stages.specs.student import Bilstm, Cut, Fresh, Pretrained, Start

WIDTHS = ("hidden_size", "dim", "d_model")
HEADS = ("num_attention_heads", "n_heads")
DEPTHS = ("num_hidden_layers", "n_layers", "num_layers")


@dataclass(frozen=True, slots=True)
class Shape:
    """``layers`` encoder layers of width ``width`` with ``heads`` attention heads each; ``heads`` is 0 if neither the
    configuration nor the architecture's defaults have such a field. A BiLSTM has 0 layers: it has no states of layers
    to store or to match."""

    layers: int
    width: int
    heads: int = 0


def shape_of(config: Mapping[str, object], where: str) -> Shape:
    """The shape in a model's configuration. ``where`` is its file, for messages. Raises ValueError if the configuration
    has no field of depth or of width."""
    fields = with_defaults(config)
    heads = [int(fields[name]) for name in HEADS if isinstance(fields.get(name), int)]  # type: ignore[call-overload]
    return Shape(_first(config, DEPTHS, where), _first(config, WIDTHS, where), (heads or [0])[0])


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
        case Pretrained():
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
