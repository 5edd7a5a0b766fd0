"""Keep some of a model's encoder layers, and reorder the outputs of its classification head."""

from collections.abc import Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel


def encoder_layers(model: PreTrainedModel) -> tuple[nn.Module, str]:
    """The module that holds the list of the encoder's layers, and the name of that list in it. Raises ValueError for an
    architecture that has no such list."""
    count = depth(model.config)
    for module in model.base_model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == count:
                return module, name
    raise ValueError(
        f"{model.config.model_type}: found no list of {count} layers; give the student as a model of its own"
    )


def cut_layers(model: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """``model``, changed in place, with only the encoder layers at these positions, counted from 0, in this order.
    Embeddings and head stay.

    Raises ValueError for a layer that the model lacks, and for a model that could not be loaded again after the change.
    Its message counts layers as recipes do, from 1.
    """
    count = depth(model.config)
    wrong = [layer for layer in layers if not 0 <= layer < count]
    if wrong:
        raise ValueError(f"cut.layers: the model has no layer {wrong[0] + 1}; its layers are 1 to {count}")
    holder, name = encoder_layers(model)
    full = cast(nn.ModuleList, getattr(holder, name))
    setattr(holder, name, nn.ModuleList(full[layer] for layer in layers))
    kinds = getattr(model.config, "layer_types", None)
    if kinds is not None:
        model.config.layer_types = [kinds[layer] for layer in layers]
    model.config.num_hidden_layers = len(layers)
    _check_cut(model, layers)
    return model


def _check_cut(model: PreTrainedModel, layers: Sequence[int]) -> None:
    """Raise ValueError if its class would build other parameters from the configuration than ``model`` has: some
    architectures build a layer by its place (ModernBERT's first layer has no norm)."""
    with torch.device("meta"):
        plain = type(model)(deepcopy(model.config))
    if plain.state_dict().keys() != model.state_dict().keys():
        raise ValueError(
            f"cut.layers: {[layer + 1 for layer in layers]}, but in {model.config.model_type} a layer depends on its "
            "place; keep layer 1 first"
        )


def reorder_outputs(model: PreTrainedModel, order: Sequence[int] | None) -> PreTrainedModel:
    """``model``, changed in place, so that its output i is the previous output ``order[i]``. None changes nothing."""
    if order is not None:
        last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        with torch.no_grad():
            last.weight.copy_(last.weight[list(order)])
            last.bias.copy_(last.bias[list(order)])
    return model


def depth(config: PreTrainedConfig) -> int:
    """Number of encoder layers."""
    return int(config.num_hidden_layers)
