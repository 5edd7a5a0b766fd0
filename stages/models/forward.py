"""One forward pass: logits, hidden states, attention maps, and their pooling."""

from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def width(model: nn.Module) -> int:
    """Width H of a layer's hidden state."""
    return int(cast(PreTrainedModel, model).config.hidden_size)


def forward(model: nn.Module, batch: dict[str, Tensor], hidden: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Logits [B, C], and with ``hidden`` the states [B, T, H] of the embeddings and of each layer; without it ()."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
    result = model(**inputs, output_hidden_states=hidden)
    return result.logits, tuple(result.hidden_states) if hidden else ()


def attention_maps(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """The attention maps [B, heads, T, T] of each layer, after the softmax. The model must use eager attention."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
    return tuple(model(**inputs, output_attentions=True).attentions)


def pooled_state(states_BTH: Tensor, mask_BT: Tensor, pooling: str) -> Tensor:
    """[B, H] in float32: the mean over the tokens of a row that ``mask`` marks, or with ``pooling`` "cls" the first
    one."""
    if pooling == "cls":
        return states_BTH[:, 0].float()
    weights_BT1 = mask_BT[:, :, None].to(torch.float32)
    return (states_BTH.float() * weights_BT1).sum(1) / weights_BT1.sum(1)


def count_parameters(model: nn.Module) -> int:
    """The number of parameters of ``model``, trainable or not."""
    return sum(parameter.numel() for parameter in model.parameters())
