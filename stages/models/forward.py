"""One forward pass, from tokens or from word embeddings: logits, hidden states, attention scores and maps, and the
pooling of states."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

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


def encoder_states(encoder: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The states [B, T, H] of the embeddings and of each layer of a model without a head, for inputs as ``forward``
    takes them."""
    return tuple(encoder(**_arguments(encoder, inputs), output_hidden_states=True).hidden_states)


def attention_maps(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The attention maps [B, heads, T, T] of each layer, after the softmax, for inputs as ``forward`` takes them. The
    model must use eager attention."""
    return tuple(model(**_arguments(model, inputs), output_attentions=True).attentions)


def attention_scores(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The attention scores [B, heads, T, T] of each layer, before the softmax, for inputs as ``forward`` takes them.
    The model must use eager attention. Raises ValueError as ``recorded_scores`` does."""
    with recorded_scores(model) as scores:
        model(**_arguments(model, inputs))
    return tuple(scores)


@contextmanager
def recorded_scores(model: nn.Module) -> Iterator[Sequence[Tensor]]:
    """A list that has, when the block ends, the attention scores [B, heads, T, T] of each layer of the one forward pass
    within it: what the layer's softmax over the keys was given, so scaled and with any bias of positions, and very
    negative where the key is padding. Gradients flow through them, and dropout comes after them.

    The softmax is what all eager implementations of attention have in common, whether or not they go through the
    attention functions that transformers lets one replace (MPNet and DeBERTa do not). Raises ValueError if the pass had
    not one such softmax for each layer: the architecture is none of ``GIVES_SCORES``, or its attention is not eager.
    """
    recorder = _SoftmaxRecorder()
    with recorder:
        yield recorder.inputs
    config = unwrapped(model).config
    if len(recorder.inputs) != config.num_hidden_layers:
        raise ValueError(
            f"{config.model_type}: {len(recorder.inputs)} tensors of attention scores for {config.num_hidden_layers} "
            "layers; use another architecture, such as a BERT"
        )


class _SoftmaxRecorder(TorchFunctionMode):
    """Keeps the input of each softmax over the last of four dimensions that is computed while the mode is active."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func in (torch.softmax, torch.nn.functional.softmax, Tensor.softmax) and args[0].ndim == 4:
            self.inputs.append(args[0])
        return func(*args, **(kwargs or {}))


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
