"""A linear-chain conditional random field over the words of a sentence (Lafferty, McCallum and Pereira 2001).

The score of a sequence of tags y for a sentence x of n words is

    s(y, x) = start[y_1] + sum_t e_t[y_t] + sum_(t > 1) transition[y_(t-1), y_t] + end[y_n],

where the emissions e are the outputs of a token classifier, and p(y | x) = exp(s(y, x)) / Z(x). All sums over
sequences are taken by the forward-backward algorithm in log space, in float32 at least.

Shapes: B rows, T words of the longest row, C tags. ``mask_BT`` is true for a row's words, which come first; every row
has at least one.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stages.tagging.tags import may_begin, may_follow

FORBIDDEN = -1e4
"""The score of a transition that is not allowed. A finite one keeps gradients finite, and its exponential is 0."""


Reduce = Callable[[Tensor, int], Tensor]
"""What reduces scores over a dimension: the logarithm of the sum of their exponentials, or their maximum."""


class Chain(NamedTuple):
    """The scores of a CRF beside its emissions: ``transition`` [C, C] from the tag of the first axis to that of the
    second, and those of the first and of the last tag, ``start`` and ``end`` [C]."""

    transition: Tensor
    start: Tensor
    end: Tensor

    def tempered(self, temperature: float) -> "Chain":
        """The scores divided by a temperature. With emissions divided by it too, p(y | x) becomes proportional to its
        own power 1 / temperature, as the softmax of divided logits does."""
        return Chain(*(score / temperature for score in self))


class LinearChainCrf(nn.Module):
    """The trained scores of a CRF for a tag set. They start at 0, where the CRF is a softmax of each word.

    With ``constrained``, sequences that are not valid in IOB2 have the probability 0. Labels must then be valid."""

    def __init__(self, tags: Sequence[str], constrained: bool = False) -> None:
        super().__init__()
        self.transition = nn.Parameter(torch.zeros(len(tags), len(tags)))
        self.start = nn.Parameter(torch.zeros(len(tags)))
        self.end = nn.Parameter(torch.zeros(len(tags)))
        self._forbidden = [[constrained and not may_follow(before, tag) for tag in tags] for before in tags]
        self._forbidden.append([constrained and not may_begin(tag) for tag in tags])
        # No buffer: transformers loads models without making the buffers that are in no file.
        self._mask: Tensor | None = None

    def chain(self) -> Chain:
        """The scores, with those of forbidden transitions in place."""
        if self._mask is None or self._mask.device != self.start.device:
            with torch.inference_mode(False):  # a tensor that is made in inference mode cannot be trained with later
                self._mask = torch.tensor(self._forbidden, device=self.start.device)
        transition_CC = self.transition.masked_fill(self._mask[:-1], FORBIDDEN)
        return Chain(transition_CC, self.start.masked_fill(self._mask[-1], FORBIDDEN), self.end)


def negative_log_likelihood(emissions_BTC: Tensor, tags_BT: Tensor, mask_BT: Tensor, chain: Chain) -> Tensor:
    """[B]: -log p(y | x) = log Z(x) - s(y, x) of the sequences ``tags_BT``, whose values beyond a row are not read."""
    return log_partition(emissions_BTC, mask_BT, chain) - sequence_score(emissions_BTC, tags_BT, mask_BT, chain)


def sequence_score(emissions_BTC: Tensor, tags_BT: Tensor, mask_BT: Tensor, chain: Chain) -> Tensor:
    """[B]: s(y, x) of the sequences ``tags_BT``."""
    emissions_BTC, transition_CC, start_C, end_C = _in_float32(emissions_BTC, mask_BT, chain)
    tags_BT = tags_BT.masked_fill(~mask_BT, 0)
    words_BT = emissions_BTC.gather(2, tags_BT[:, :, None]).squeeze(2) * mask_BT
    steps_BT = transition_CC[tags_BT[:, :-1], tags_BT[:, 1:]] * mask_BT[:, 1:]
    last_B = tags_BT.gather(1, mask_BT.sum(1, keepdim=True) - 1).squeeze(1)
    return start_C[tags_BT[:, 0]] + words_BT.sum(1) + steps_BT.sum(1) + end_C[last_B]


def log_partition(emissions_BTC: Tensor, mask_BT: Tensor, chain: Chain) -> Tensor:
    """[B]: log Z(x), the logarithm of the sum of exp(s(y, x)) over all sequences of tags."""
    emissions_BTC, transition_CC, start_C, end_C = _in_float32(emissions_BTC, mask_BT, chain)
    alphas = _forward(emissions_BTC, mask_BT, transition_CC, start_C)
    return (alphas[-1] + end_C).logsumexp(1)


def log_marginals(emissions_BTC: Tensor, mask_BT: Tensor, chain: Chain) -> Tensor:
    """[B, T, C]: log p(y_t = c | x), the posterior of each word's tag. Values beyond a row are those of its last word.

    By forward and backward scores: alpha_t[c] sums over the beginnings that end in c at word t, beta_t[c] over all
    continuations, and p(y_t = c | x) = exp(alpha_t[c] + beta_t[c]) / Z(x)."""
    joint_BTC = _both_ways(emissions_BTC, mask_BT, chain, _log_sum)
    return joint_BTC - joint_BTC.logsumexp(2, keepdim=True)


def max_marginals(emissions_BTC: Tensor, mask_BT: Tensor, chain: Chain) -> Tensor:
    """[B, T, C]: the logarithm of max p(y | x) over the sequences y with y_t = c. At each word, the tag with the
    largest is that of the most probable sequence, which ``viterbi`` finds. Values beyond a row are those of its last
    word.

    As ``log_marginals``, with the greatest in the place of the sum."""
    joint_BTC = _both_ways(emissions_BTC, mask_BT, chain, Tensor.amax)
    return joint_BTC - log_partition(emissions_BTC, mask_BT, chain)[:, None, None]


def _both_ways(emissions_BTC: Tensor, mask_BT: Tensor, chain: Chain, over: Reduce) -> Tensor:
    """[B, T, C]: alpha_t[c] + beta_t[c], where alpha reduces the scores of the beginnings that end in c at word t, and
    beta those of all continuations, by ``over``."""
    emissions_BTC, transition_CC, start_C, end_C = _in_float32(emissions_BTC, mask_BT, chain)
    alphas = _forward(emissions_BTC, mask_BT, transition_CC, start_C, over)
    beta_BC = end_C.expand_as(alphas[-1])
    betas = [beta_BC]
    for t in range(emissions_BTC.shape[1] - 1, 0, -1):
        after_BC = beta_BC + emissions_BTC[:, t]
        # [B, C, C]: from the tag at word t - 1 to that at word t.
        stepped_BC = over(transition_CC + after_BC[:, None, :], 2)
        beta_BC = torch.where(mask_BT[:, t, None], stepped_BC, beta_BC)
        betas.append(beta_BC)
    return torch.stack(alphas, 1) + torch.stack(betas[::-1], 1)


@torch.no_grad()
def viterbi(emissions_BTC: Tensor, mask_BT: Tensor, chain: Chain) -> Tensor:
    """[B, T] int64: the sequence of tags with the highest score. Values beyond a row are its last tag. Of several with
    that score, one."""
    emissions_BTC, transition_CC, start_C, end_C = _in_float32(emissions_BTC, mask_BT, chain)
    best_BC = start_C + emissions_BTC[:, 0]
    stay_BC = torch.arange(len(start_C), device=best_BC.device).expand_as(best_BC)
    origins = []
    for t in range(1, emissions_BTC.shape[1]):
        stepped_BC, origin_BC = (best_BC[:, :, None] + transition_CC).max(1)
        inside_B1 = mask_BT[:, t, None]
        best_BC = torch.where(inside_B1, stepped_BC + emissions_BTC[:, t], best_BC)
        origins.append(torch.where(inside_B1, origin_BC, stay_BC))
    tag_B1 = (best_BC + end_C).argmax(1, keepdim=True)
    found = [tag_B1]
    for origin_BC in reversed(origins):
        tag_B1 = origin_BC.gather(1, tag_B1)
        found.append(tag_B1)
    return torch.cat(found[::-1], 1)


def _log_sum(scores: Tensor, dimension: int) -> Tensor:
    return scores.logsumexp(dimension)


def _forward(
    emissions_BTC: Tensor, mask_BT: Tensor, transition_CC: Tensor, start_C: Tensor, over: Reduce = _log_sum
) -> list[Tensor]:
    """The forward scores [B, C] of each word, reduced by ``over``; beyond a row, those of its last word."""
    alpha_BC = start_C + emissions_BTC[:, 0]
    alphas = [alpha_BC]
    for t in range(1, emissions_BTC.shape[1]):
        stepped_BC = over(alpha_BC[:, :, None] + transition_CC, 1) + emissions_BTC[:, t]
        alpha_BC = torch.where(mask_BT[:, t, None], stepped_BC, alpha_BC)
        alphas.append(alpha_BC)
    return alphas


def _in_float32(emissions_BTC: Tensor, mask_BT: Tensor, chain: Chain) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Emissions and scores in float32, or in float64 where the emissions are: sums over long sentences lose too much in
    half of the bytes."""
    assert emissions_BTC.shape[:2] == mask_BT.shape, (emissions_BTC.shape, mask_BT.shape)
    kind = torch.promote_types(emissions_BTC.dtype, torch.float32)
    transition_CC, start_C, end_C = (score.to(kind) for score in chain)
    return emissions_BTC.to(kind), transition_CC, start_C, end_C
