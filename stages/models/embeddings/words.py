"""A model's word embeddings, of token ids and of one-hot vectors over the vocabulary.

These are the rows of the model's table alone, as its argument ``inputs_embeds`` takes them: the model itself adds
positions and token types and applies its norm, projection and dropout, whatever its architecture.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from stages.models.passes.cast_weights import CastWeights


def unwrapped(model: nn.Module) -> PreTrainedModel:
    """The transformers model in ``model``, which may be wrapped by DistributedDataParallel, ``CastWeights`` or
    torch.compile."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(model, CastWeights):
            model = model.model
        elif isinstance(compiled := getattr(model, "_orig_mod", None), nn.Module):
            model = compiled
        else:
            return cast(PreTrainedModel, model)


def word_embeddings(model: nn.Module) -> nn.Embedding:
    """The table from token ids to vectors, [V, E]. E is the width of the layers in most architectures; ELECTRA, ALBERT
    and DeBERTa-v2 may have narrower embeddings. V is at least the size of the tokenizer's vocabulary.

    Raises ValueError for an architecture without such a table.
    """
    inner = unwrapped(model)
    try:
        table: object = inner.get_input_embeddings()
    except NotImplementedError:
        table = None
    if not isinstance(table, nn.Embedding):
        raise ValueError(
            f"{inner.config.model_type}: it has no table of word embeddings; choose a model that looks up each token "
            "in one table"
        )
    return table


def embed(model: nn.Module, input_ids: Tensor) -> Tensor:
    """[..., E]: the word embeddings of token ids [...], without positions, norm or dropout. Raises ValueError for an
    architecture without a table of them.

    The gradient reaches the table. Under DistributedDataParallel, the backward pass of a step has to reach every
    parameter, the table too: where all of the step's inputs are detached embeddings, it does not.
    """
    found: Tensor = word_embeddings(model)(input_ids)
    return found


def embed_one_hot(model: nn.Module, one_hot: Tensor) -> Tensor:
    """[..., E]: the word embeddings of the tokens that one-hot vectors [..., V'] choose, with the gradient of the
    product of ``one_hot`` and the table, so that what made the choice can be trained: a generator by a
    straight-through Gumbel-softmax (Jang et al. 2017; ``torch.nn.functional.gumbel_softmax`` with ``hard=True``).

    The values are looked up, and so are those of ``embed`` bit for bit in any precision, where the product would round
    (the entries of a straight-through vector are 0 and 1 up to rounding alone). The gradient for ``one_hot`` takes a
    product of [N, E] and [E, V'] for its N vectors: give only the positions that the generator fills. V' may be
    smaller than V.

    Raises ValueError for an architecture without a table of word embeddings, with one that scales its rows, or with
    fewer rows than V'.
    """
    table = word_embeddings(model)
    model_type, size = unwrapped(model).config.model_type, one_hot.shape[-1]
    if type(table) is not nn.Embedding:
        raise ValueError(
            f"{model_type}: its word embeddings are not the rows of its table ({type(table).__name__} scales them); "
            "choose a model without such a scale"
        )
    if size > table.num_embeddings:
        raise ValueError(
            f"{model_type}: the vectors choose among {size} tokens, but it has embeddings of {table.num_embeddings}; "
            "choose models of one vocabulary"
        )
    chosen = table(one_hot.argmax(-1))
    return cast(Tensor, _ThroughOneHot.apply(chosen, one_hot, table.weight))


class _ThroughOneHot(torch.autograd.Function):
    """``chosen`` [..., E] as it is, with a gradient for ``one_hot`` [..., V'] as if it were the product of ``one_hot``
    and the first V' rows of ``weight`` [V, E]. ``weight`` gets its gradient through ``chosen``."""

    @staticmethod
    def forward(ctx: Any, chosen: Tensor, one_hot: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.size, ctx.dtype = one_hot.shape[-1], one_hot.dtype
        return chosen.view_as(chosen)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (gradient,) = gradients
        (weight,) = ctx.saved_tensors
        through = (gradient @ weight[: ctx.size].T).to(ctx.dtype) if ctx.needs_input_grad[1] else None
        return gradient, through, None
