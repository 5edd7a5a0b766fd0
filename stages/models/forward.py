"""One forward pass: logits, hidden states, attention scores and maps, and the pooling of states."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from stages.models.adapters.by_model import adapter_of
from stages.models.adapters.protocol import ForwardOutputs
from stages.models.adapters.text import text_arguments
from stages.models.embeddings.words import unwrapped


def widths(model: nn.Module) -> tuple[int, ...]:
    """The width H of the states of the embeddings and of each layer."""
    return adapter_of(model).widths(model)


def pass_cost(model: nn.Module, device: str, threads: int = 1) -> int:
    """The cost (``Examples.costs``) of the rows of one forward pass of ``model`` on this device, padding included,
    before any lack of memory."""
    return adapter_of(model).pass_cost(device, threads)


def forward(model: nn.Module, inputs: Mapping[str, Tensor], hidden: bool = False) -> ForwardOutputs:
    """The logits [B, C] of ``model``, and with ``hidden`` the states [B, T, H] of its embeddings and of each layer, as
    its adapter gives them. Raises ValueError for inputs that the model does not take."""
    return adapter_of(model).outputs(model, inputs, hidden)


def encoder_states(encoder: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The states [B, T, H] of the embeddings and of each layer of a model without a head, for inputs as ``forward``
    takes them."""
    return tuple(encoder(**text_arguments(encoder, inputs), output_hidden_states=True).hidden_states)


def attention_maps(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The attention maps [B, heads, T, T] of each layer, after the softmax, for inputs as ``forward`` takes them. The
    model must use eager attention."""
    return tuple(model(**text_arguments(model, inputs), output_attentions=True).attentions)


def attention_scores(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The attention scores [B, heads, T, T] of each layer, before the softmax, for inputs as ``forward`` takes them.
    The model must use eager attention. Raises ValueError as ``recorded_scores`` does."""
    with recorded_scores(model) as scores:
        model(**text_arguments(model, inputs))
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


def pooled_state(states_BTH: Tensor, mask_BT: Tensor | None, pooling: str) -> Tensor:
    """[B, H] in float32: the mean over the positions of a row that ``mask`` marks (all without one), or with
    ``pooling`` "cls" the first one."""
    if pooling == "cls":
        return states_BTH[:, 0].float()
    if mask_BT is None:
        return states_BTH.float().mean(1)
    weights_BT1 = mask_BT[:, :, None].to(torch.float32)
    return (states_BTH.float() * weights_BT1).sum(1) / weights_BT1.sum(1)


def count_parameters(model: nn.Module) -> int:
    """The number of parameters of ``model``, trainable or not."""
    return sum(parameter.numel() for parameter in model.parameters())
