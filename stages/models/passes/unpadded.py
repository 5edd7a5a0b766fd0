"""Layers that compute the tokens of a batch and not its padding.

A batch is padded to its longest row. Rows of train are batched by length, and 2 to 5 % of their positions are padding;
of the candidates of a step, whose lengths nothing orders, a third to two fifths are. A layer's linear layers, norms,
activations and dropout treat every position alone, so they run on the tokens of all rows one after the other,
[1, N, H] in place of [B, T, H]. Attention alone relates positions of a row: queries, keys and values are padded again
for it. Outside of a layer nothing changes: its input and its output are [B, T, H], and its output is 0 where a row is
padded.

Logits and states without dropout are those of the padded model but for rounding. With dropout they are those of other
random masks, as fewer numbers are drawn.
"""

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

from stages.models.architectures import UNPADDED
from stages.models.cutting import encoder_layers

IMPLEMENTATION = "stillhouse_unpadded"
"""The name of ``padded_for_attention`` among transformers' implementations of attention. For a name that
transformers does not know, it makes no mask of attention, and passes further arguments of a model on to each layer."""


class TokenPlaces(NamedTuple):
    """Where the tokens of a batch are: ``mask`` [B, T] marks them, and ``places`` [N] has their numbers among the B x T
    positions."""

    mask: Tensor
    places: Tensor

    def tokens_of(self, padded: Tensor) -> Tensor:
        """[N, H]: the states at the tokens, of states [B, T, H]."""
        return cast(Tensor, _TokensOf.apply(padded.reshape(-1, padded.shape[-1]), self.places))

    def padded(self, tokens: Tensor) -> Tensor:
        """[B, T, H]: the states [N, H] of the tokens, with 0 between them."""
        found = _Padded.apply(tokens, self.places, self.mask.numel())
        return cast(Tensor, found).view(*self.mask.shape, -1)


def compute_tokens_only(model: PreTrainedModel) -> None:
    """Change ``model`` in place so that its layers do not compute padding; its weights and their names stay. A model
    that was changed before is left as it is. Raises ValueError for an architecture that is not in ``UNPADDED``."""
    if model.config.model_type not in UNPADDED:
        raise ValueError(f"{model.config.model_type}: its layers compute padding; use one of {', '.join(UNPADDED)}")
    holder, name = encoder_layers(model)
    layers = cast(nn.ModuleList, getattr(holder, name))
    if any(isinstance(layer, _ComputesTokens) for layer in layers):
        return
    for layer in layers:
        layer.__class__ = _layer_class(type(layer))
    model.base_model.register_forward_pre_hook(_with_places, with_kwargs=True)
    model.set_attn_implementation(IMPLEMENTATION)


def padded_for_attention(
    _layer: nn.Module,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    _mask: Tensor | None,
    *,
    token_places: TokenPlaces | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention of queries, keys and values [1, heads, N, D] of the tokens of a batch, within each row. Returns
    [1, N, heads, D]. Without ``token_places`` no row is padded, and all have B in place of 1 and T in place of N."""
    if token_places is None:
        found = functional.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout, scale=scaling)
        return found.transpose(1, 2).contiguous(), None
    heads, width = queries.shape[1], queries.shape[3]

    def rows(tokens: Tensor) -> Tensor:
        padded = token_places.padded(tokens[0].transpose(0, 1).reshape(-1, heads * width))
        return padded.view(*padded.shape[:2], heads, width).transpose(1, 2)

    found = functional.scaled_dot_product_attention(
        rows(queries),
        rows(keys),
        rows(values),
        attn_mask=token_places.mask[:, None, None, :],
        dropout_p=dropout,
        scale=scaling,
    )
    return token_places.tokens_of(found.transpose(1, 2).flatten(2)).view(1, -1, heads, width), None


AttentionInterface.register(IMPLEMENTATION, padded_for_attention)


def _with_places(model: nn.Module, args: tuple[Any, ...], given: Mapping[str, Any]) -> tuple[tuple[Any, ...], Any]:
    """The arguments of a model with the ``token_places`` of its batch, None where no row is padded."""
    mask = inspect.signature(model.forward).bind_partial(*args, **given).arguments.get("attention_mask")
    mask = None if mask is None or bool(mask.all()) else mask.bool()
    places = None if mask is None else TokenPlaces(mask, mask.flatten().nonzero().squeeze(1))
    return args, {**given, "token_places": places}


class _ComputesTokens:
    """Mixed into the class of a layer: the layer on the tokens alone."""

    def forward(self, states: Tensor, *args: Any, token_places: TokenPlaces | None, **given: Any) -> Tensor:
        layer = cast(Any, super())
        if token_places is None:
            return cast(Tensor, layer.forward(states, *args, token_places=None, **given))
        tokens = token_places.tokens_of(states)[None]
        return token_places.padded(layer.forward(tokens, *args, token_places=token_places, **given)[0])


def _layer_class(own: type[nn.Module]) -> type[nn.Module]:
    """A class for layers of the class ``own``; isinstance holds, by which transformers finds the layers whose states it
    returns."""
    return type(f"Unpadded{own.__name__}", (_ComputesTokens, own), {})


class _TokensOf(torch.autograd.Function):
    """Rows ``places`` [N] of a matrix [M, H]. The gradient is written where autograd's own would add, one row after the
    other, as it does not know that no row is taken twice."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.rows = len(matrix)
        return matrix.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.rows, gradient.shape[1]).index_copy_(0, places, gradient), None


class _Padded(torch.autograd.Function):
    """A matrix [M, H] with ``rows`` [N, H] at ``places`` [N] and 0 elsewhere."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(places)
        return rows.new_zeros(size, rows.shape[1]).index_copy_(0, places, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        return gradient.index_select(0, places), None, None
