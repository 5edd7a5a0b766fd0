"""What a training and a teacher's dump know of a model. An adapter gives it for the models of one kind of input."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from torch import Tensor, nn


class ForwardOutputs(NamedTuple):
    """A model's outputs for B rows: the ``logits`` [B, C]; the ``states`` [B, T, H] of the embeddings and of each
    layer, where they were requested (else ()), whose T and H may differ from layer to layer; and the ``mask`` [B, T] of
    the positions that count, None where all do.

    Where rows have entries with outputs of their own, the logits are [B, W, C], W entries of the longest row, and
    ``entries`` [B, W] marks those that losses count. ``label_loss`` is the model's own loss [B] of labels [B, W], for a
    model whose loss is no sum over its logits; else None. ``decided`` gives logits whose largest are the predictions,
    for a model that does not predict what is most probable by ``logits``; else None."""

    logits: Tensor
    states: tuple[Tensor, ...]
    mask: Tensor | None
    entries: Tensor | None = None
    label_loss: Callable[[Tensor], Tensor] | None = None
    decided: Callable[[], Tensor] | None = None


class Adapter(Protocol):
    """The models of one kind of input."""

    def outputs(self, model: nn.Module, inputs: Mapping[str, Tensor], hidden: bool) -> ForwardOutputs:
        """The model's outputs for a batch, with the states of its layers if ``hidden`` is set. Arguments that the model
        does not take are ignored."""
        ...

    def widths(self, model: nn.Module) -> tuple[int, ...]:
        """The width H of the states of the embeddings and of each layer."""
        ...

    def pass_cost(self, device: str, threads: int) -> int:
        """The cost (``Examples.costs``) of the rows of one forward pass on this device, padding included, before any
        lack of memory."""
        ...
