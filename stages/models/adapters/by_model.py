"""Which adapter a model has."""

from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from stages.images.pixel_rows import PIXEL_VALUES
from stages.models.adapters.images import ImageAdapter
from stages.models.adapters.protocol import Adapter
from stages.models.adapters.text import TextAdapter
from stages.models.embeddings.words import unwrapped

ADAPTERS: Mapping[str, Adapter] = MappingProxyType({"input_ids": TextAdapter(), PIXEL_VALUES: ImageAdapter()})
"""The name of a model's main input, as transformers calls it (``main_input_name``) -> its adapter."""


def adapter_of(model: nn.Module) -> Adapter:
    """The adapter of ``model``, which may be compiled or data parallel. Raises ValueError for a model whose main input
    is of a kind that has none."""
    name = str(getattr(unwrapped(model), "main_input_name", "input_ids"))
    if name not in ADAPTERS:
        raise ValueError(f"{type(unwrapped(model)).__name__}: reads {name}; use a model of {', '.join(ADAPTERS)}")
    return ADAPTERS[name]
