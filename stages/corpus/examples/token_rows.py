"""Rows of texts as tokens in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stages.corpus.batches import Ragged, Rows
from stages.corpus.examples.protocol import Inputs
from stages.corpus.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Rows as tokens, which are the ``Examples`` of a task on texts. ``types`` are the token types of pairs; None where
    the tokenizer has none. ``pad`` is the id of the padding token."""

    tokens: Ragged
    types: Ragged | None
    pad: int

    def __len__(self) -> int:
        return len(self.tokens.offsets) - 1

    @property
    def costs(self) -> npt.NDArray[np.int64]:
        """[N]: the number of tokens of each row."""
        return self.tokens.lengths

    def collate(self, rows: Rows) -> dict[str, npt.NDArray[np.int64]]:
        """``input_ids`` and ``attention_mask`` [B, T], and ``token_type_ids`` of pairs, padded to the longest row."""
        found = {"input_ids": self.tokens.padded(rows, self.pad), "attention_mask": self.tokens.mask(rows)}
        if self.types is not None:
            found["token_type_ids"] = self.types.padded(rows, 0)
        return found

    def fitted(self, inputs: Inputs, longest: int | None) -> "dict[str, Tensor]":
        """``inputs`` padded to a multiple of a few tokens (``padded_length``) under a mask of 0; left as they are where
        that would be more than ``longest`` tokens."""
        from torch.nn import functional  # predictions by ONNX Runtime need no torch

        length = inputs["input_ids"].shape[1]
        wanted = padded_length(length)
        more = 0 if longest and wanted > longest else wanted - length
        fill = {"input_ids": self.pad}
        return {name: functional.pad(value, (0, more), value=fill.get(name, 0)) for name, value in inputs.items()}

    def take(self, rows: Rows) -> "TokenRows":
        """These rows, in this order."""
        types = None if self.types is None else self.types.take(rows)
        return replace(self, tokens=self.tokens.take(rows), types=types)

    def followed_by(self, other: "TokenRows") -> "TokenRows":
        """These rows, then the other's, which have the same tokenizer."""
        types = self.types.followed_by(other.types) if self.types is not None and other.types is not None else None
        return replace(self, tokens=self.tokens.followed_by(other.tokens), types=types)


def padded_length(length: int) -> int:
    """The number of tokens to which a batch whose longest row has ``length`` is padded: a multiple of 8, and of an
    eighth of the power of two above, so that a training has few lengths and little padding."""
    multiple = max(8, 1 << max(0, (length - 1).bit_length() - 3))
    return -(-length // multiple) * multiple


def encode(tokenizer: Tokenizer, texts: Sequence[Sequence[str]], max_length: int) -> TokenRows:
    """Rows of one text or two as tokens, as training makes them: cut at ``max_length`` tokens, of a pair the longer
    text first. There is at least one row."""
    columns = [list(column) for column in zip(*texts, strict=True)]
    encoded = tokenizer(*columns, truncation="longest_first", max_length=max_length, padding=False)
    with_types = len(columns) == 2 and "token_type_ids" in encoded
    types = _ragged(encoded["token_type_ids"]) if with_types else None
    return TokenRows(_ragged(encoded["input_ids"]), types, int(tokenizer.pad_token_id))


def _ragged(rows: Sequence[Sequence[int]]) -> Ragged:
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return Ragged(np.fromiter((value for row in rows for value in row), np.int32, int(offsets[-1])), offsets)
