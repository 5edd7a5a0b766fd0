"""Choices of tokens by a generator: which places it fills, and with what, drawn so that nothing depends on how rows are
divided among workers, on padding, or on the order of rows.

Shapes: B rows, T tokens, M chosen places of a batch, V tokens of the vocabulary.
"""

from collections.abc import Sequence
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
class RowPlaces:
    """The tokens of a row that a generator fills: their ``columns`` [m], and ``uniform`` [m] a number in [0, 1) for
    each."""

    columns: Ids
    uniform: Uniform


@dataclass(frozen=True, slots=True)
class Places:
    """The places of a batch [B, T] that a generator fills, in order of rows: ``flat`` [M] in the flattened batch,
    ``uniform`` [M] a number in [0, 1) for each, and ``by_row`` how many each row has."""

    flat: Ids
    uniform: Uniform
    by_row: Sequence[int]


def chosen_in_row(ids_T: Ids, share: float, tokens: TokenIds, seed: int) -> RowPlaces:
    """The tokens of a row without padding that are filled: each that is not special with probability ``share``."""
    drawn_T2 = np.random.Generator(np.random.PCG64(seed)).random((len(ids_T), 2))
    columns = np.flatnonzero(~np.isin(ids_T, tokens.special) & (drawn_T2[:, 0] < share))
    return RowPlaces(columns, drawn_T2[columns, 1])


def in_batch(rows: Sequence[RowPlaces], width: int) -> Places:
    """The places of rows in a batch that is ``width`` tokens wide."""
    flat = np.concatenate([number * width + row.columns for number, row in enumerate(rows)])
    return Places(flat, np.concatenate([row.uniform for row in rows]), [len(row.columns) for row in rows])


def writable(logits_MW: Tensor, forbidden_V: Tensor) -> Tensor:
    """[M, V]: the logits in float32 of the V tokens of the vocabulary, which may be fewer than the W that the model
    has, and minus infinity for those that ``forbidden_V`` marks, so that none of them is written."""
    return logits_MW[:, : len(forbidden_V)].float().masked_fill(forbidden_V, float("-inf"))


def forbidden_tokens(tokens: TokenIds) -> Tensor:
    """[V]: whether a generator may not write the token: special ones, and ids that stand for none."""
    forbidden_V = torch.ones(int(max(tokens.drawn_from.max(), tokens.special.max())) + 1, dtype=torch.bool)
    forbidden_V[torch.from_numpy(tokens.drawn_from)] = False
    return forbidden_V


def drawn_tokens(logits_MV: Tensor, uniform_M: Tensor) -> Tensor:
    """[M]: a token for each place, drawn from softmax(logits): the first whose cumulated probability is above the
    place's number. The largest of the logits with Gumbel noise has the same distribution, whatever the temperature of
    the softmax over them (Jang et al. 2017, section 2.1), and takes V random numbers a place."""
    cumulated_MV = logits_MV.softmax(-1).cumsum(-1)
    total_M = cumulated_MV[:, -1]
    # A number near 1 is rounded to 1, and would be above the last token that has a probability.
    below_M = torch.nextafter(total_M, torch.zeros_like(total_M))
    wanted_M1 = torch.minimum(uniform_M.to(cumulated_MV) * total_M, below_M).unsqueeze(1)
    return torch.searchsorted(cumulated_MV, wanted_M1, right=True).squeeze(1)


def gumbel_noise(by_row: Sequence[int], tokens: int, seeds: Sequence[int], device: str) -> Tensor:
    """[M, V]: -log(-log u) for uniform u, drawn for each row by its seed."""
    rows = []
    for seed, count in zip(seeds, by_row, strict=True):
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
