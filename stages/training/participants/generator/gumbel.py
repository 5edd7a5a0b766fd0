"""Choices of tokens by a generator: which places it fills, and with what, drawn so that nothing depends on how rows are
divided among workers, on padding, or on the order of rows.

Shapes: B rows, T tokens, M chosen places of a batch, V tokens of the vocabulary.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stages.models.masked.token_ids import Ids, TokenIds

Uniform = npt.NDArray[np.float64]

TINY = 1e-20
"""Added before a logarithm, so that a uniform number of 0 gives a large number and not an infinite one."""


@dataclass(frozen=True, slots=True)
class Places:
    """Places of a batch [B, T] that a generator fills, in order of rows: ``flat`` [M] in the flattened batch,
    ``uniform`` [M] a number in [0, 1) for each, and ``by_row`` [B] how many each row has."""

    flat: Ids
    uniform: Uniform
    by_row: Ids


def chosen_places(ids_BT: Ids, lengths_B: Ids, share: float, tokens: TokenIds, seeds: list[int]) -> Places:
    """The places of a batch that are filled: each token that is not special with probability ``share``, by a seed for
    each row. ``lengths_B`` are the rows' tokens without padding."""
    inside_BT = (np.arange(ids_BT.shape[1]) < lengths_B[:, None]) & ~np.isin(ids_BT, tokens.special)
    # Two numbers for each token, so that a longer padding draws more of them at the end and changes none before.
    drawn_BT2 = np.stack([np.random.Generator(np.random.PCG64(seed)).random((ids_BT.shape[1], 2)) for seed in seeds])
    chosen_BT = inside_BT & (drawn_BT2[:, :, 0] < share)
    return Places(np.flatnonzero(chosen_BT), drawn_BT2[:, :, 1][chosen_BT], chosen_BT.sum(1))


def writable(logits_MV: Tensor, special: Tensor) -> Tensor:
    """[M, V]: the logits in float32, with those of ``special`` tokens at minus infinity, so that none is written."""
    return logits_MV.float().index_fill(1, special, float("-inf"))


def drawn_tokens(logits_MV: Tensor, uniform_M: Tensor) -> Tensor:
    """[M]: a token for each place, drawn from softmax(logits): the first whose cumulated probability is above the
    place's number. The largest of the logits with Gumbel noise has the same distribution, whatever the temperature of
    the softmax over them (Jang et al. 2017, section 2.1), and takes V random numbers a place."""
    cumulated_MV = logits_MV.softmax(-1).cumsum(-1)
    wanted_M1 = (uniform_M.to(cumulated_MV) * cumulated_MV[:, -1]).unsqueeze(1)
    found_M = torch.searchsorted(cumulated_MV, wanted_M1, right=True).squeeze(1)
    return found_M.clamp_max(logits_MV.shape[1] - 1)


def gumbel_noise(by_row: Ids, tokens: int, seeds: list[int], device: str) -> Tensor:
    """[M, V]: -log(-log u) for uniform u, drawn for each row by its seed."""
    rows = []
    for seed, count in zip(seeds, by_row.tolist(), strict=True):
        generator = torch.Generator(device).manual_seed(seed)
        rows.append(torch.rand(count, tokens, generator=generator, device=device))
    uniform_MV = torch.cat(rows)
    return -torch.log(-torch.log(uniform_MV + TINY) + TINY)


def straight_through(logits_MV: Tensor, noise_MV: Tensor, temperature: float) -> Tensor:
    """[M, V]: the one-hot vectors of the largest logits with noise, with the gradient of softmax((logits + noise) /
    temperature): the straight-through Gumbel-softmax (Jang et al. 2017, section 2.2)."""
    soft_MV = ((logits_MV + noise_MV) / temperature).softmax(-1)
    hard_MV = torch.zeros_like(soft_MV).scatter_(1, soft_MV.argmax(-1, keepdim=True), 1.0)
    return hard_MV - soft_MV.detach() + soft_MV
