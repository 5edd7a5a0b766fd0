"""One forward pass, from tokens or from word embeddings: logits, hidden states, attention maps, and their pooling."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stages.models.embeddings.inputs import embedded_inputs
from stages.models.embeddings.words import unwrapped


def width(model: nn.Module) -> int:
    """Width H of a layer's hidden state."""
    return int(unwrapped(model).config.hidden_size)


def forward(model: nn.Module, inputs: Mapping[str, Tensor], hidden: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Logits [B, C], and with ``hidden`` the states [B, T, H] of the embeddings and of each layer; without it ().

    ``inputs`` has tokens, ``input_ids`` [B, T], or the word embeddings of tokens, ``inputs_embeds`` [B, T, E], which
    ``stages.models.embeddings.words`` makes; the outputs for ``embed(model, input_ids)`` are those for ``input_ids``,
    bit for bit. Where both are given, the embeddings are read (``embedded_inputs``). ``attention_mask`` [B, T] and
    ``token_type_ids`` [B, T] are read where they are given, and anything else is ignored.

    Raises ValueError for embeddings where the architecture does not take them.
    """
    result = model(**_arguments(model, inputs), output_hidden_states=hidden)
    return result.logits, tuple(result.hidden_states) if hidden else ()


def attention_maps(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The attention maps [B, heads, T, T] of each layer, after the softmax, for inputs as ``forward`` takes them. The
    model must use eager attention."""
    return tuple(model(**_arguments(model, inputs), output_attentions=True).attentions)


def _arguments(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The arguments of ``model`` for tokens or embeddings."""
    if "inputs_embeds" in inputs:
        return embedded_inputs(model, inputs)
    return {name: inputs[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in inputs}


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
