"""Rows of texts as tokens in memory, with the place of each word among a row's tokens."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stages.corpus.batches import Ragged, Rows
from stages.corpus.examples.protocol import Inputs
from stages.corpus.examples.token_rows import TokenRows

if TYPE_CHECKING:
    from torch import Tensor

FIRST_PIECES = "first_pieces"
"""The name among a model's inputs of the places of words, [B, W]."""

NO_PIECE = -1
"""The place of a word without a piece, and of what lies beyond the words of a row."""


@dataclass(frozen=True, slots=True)
class WordRows:
    """Rows as tokens, which are the ``Examples`` of a task with labels on words. ``first`` has the place of the first
    piece of each word of a row among its tokens, ``NO_PIECE`` for a word that has none or was cut off."""

    tokens: TokenRows
    first: Ragged

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def costs(self) -> npt.NDArray[np.int64]:
        """[N]: the number of tokens of each row."""
        return self.tokens.costs

    def collate(self, rows: Rows) -> dict[str, npt.NDArray[np.int64]]:
        """As of ``TokenRows``, and the places of words, ``first_pieces`` [B, W]."""
        return {**self.tokens.collate(rows), FIRST_PIECES: self.first.padded(rows, NO_PIECE)}

    def fitted(self, inputs: Inputs, longest: int | None) -> "dict[str, Tensor]":
        """See ``TokenRows.fitted``. The number of words stays: labels have it, too."""
        tokens = {name: value for name, value in inputs.items() if name != FIRST_PIECES}
        return {**self.tokens.fitted(tokens, longest), FIRST_PIECES: inputs[FIRST_PIECES]}

    def take(self, rows: Rows) -> "WordRows":
        """These rows, in this order."""
        return WordRows(self.tokens.take(rows), self.first.take(rows))

    def followed_by(self, other: "WordRows") -> "WordRows":
        """These rows, then the other's, which have the same tokenizer."""
        return WordRows(self.tokens.followed_by(other.tokens), self.first.followed_by(other.first))
