"""What a model of words gives for the words of a batch, from its logits at word pieces.

Shapes: B rows, T tokens, W words of the longest row, C tags.
"""

from typing import Any

import torch
from torch import Tensor, nn

from stages.models.adapters.protocol import ForwardOutputs
from stages.tagging.crf import LinearChainCrf, log_marginals, max_marginals, negative_log_likelihood
from stages.tagging.tags import OUTSIDE
from stages.tagging.word_logits import word_logits

SURE = 10.0
"""The logit of O for a word that the model does not read, where the others are 0: it counts as O when entities are
scored."""


def word_outputs(model: nn.Module, logits_BTC: Tensor, first_BW: Tensor) -> ForwardOutputs:
    """The outputs of a token classifier for words, taken at their first pieces ``first_BW``: the logits [B, W, C], and
    as ``entries`` the words that have a piece. A word without one has the logits of a sure O.

    With a CRF, the logits are the logarithms of the posteriors p(y_t | x) of each word's tag; ``label_loss`` is the
    negative log-likelihood of a row's tags, divided by its words; and ``decided`` are max-marginals, whose largest are
    the tags of the most probable sequence.
    """
    emissions_BWC, words_BW = word_logits(logits_BTC, first_BW)
    config: Any = model.config
    outside = int(config.label2id[OUTSIDE])
    crf = getattr(model, "crf", None)
    if crf is None:
        return ForwardOutputs(_with_lost(emissions_BWC, words_BW, outside), (), None, words_BW)
    assert isinstance(crf, LinearChainCrf)
    places_BW, chain = _kept_first(words_BW), crf.chain()
    kept_BWC, kept_BW = _at(emissions_BWC, places_BW), words_BW.gather(1, places_BW)
    kept_BW[:, 0] = True  # the functions of a CRF need a word a row; that of a row without any is not used
    back_BW = places_BW.argsort(1)

    def of_words(values_BWC: Tensor) -> Tensor:
        return _with_lost(_at(values_BWC, back_BW), words_BW, outside)

    def label_loss(labels_BW: Tensor) -> Tensor:
        loss_B = negative_log_likelihood(kept_BWC, labels_BW.gather(1, places_BW), kept_BW, chain)
        return loss_B * words_BW.any(1) / words_BW.sum(1).clamp_min(1)

    return ForwardOutputs(
        of_words(log_marginals(kept_BWC, kept_BW, chain)),
        (),
        None,
        words_BW,
        label_loss,
        lambda: of_words(max_marginals(kept_BWC, kept_BW, chain)),
    )


def _kept_first(words_BW: Tensor) -> Tensor:
    """[B, W]: the places of each row's words that have a piece, in order, then those of the others."""
    return (~words_BW).to(torch.int8).sort(dim=1, stable=True).indices


def _at(values_BWC: Tensor, places_BW: Tensor) -> Tensor:
    """The values at these places of each row."""
    return values_BWC.gather(1, places_BW[:, :, None].expand(-1, -1, values_BWC.shape[2]))


def _with_lost(values_BWC: Tensor, words_BW: Tensor, outside: int) -> Tensor:
    """The values of words, and those of a sure O elsewhere."""
    sure_C = values_BWC.new_zeros(values_BWC.shape[2])
    sure_C[outside] = SURE
    return torch.where(words_BW[:, :, None], values_BWC, sure_C)
