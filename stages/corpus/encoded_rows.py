"""Rows of texts as tokens in memory, for models that read texts outside of a corpus."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.corpus.batches import Ragged, Rows
from stages.corpus.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Rows as tokens. ``types`` are the token types of pairs; None where the tokenizer has none. ``pad`` is the id of
    the padding token."""

    tokens: Ragged
    types: Ragged | None
    pad: int

    def __len__(self) -> int:
        return len(self.tokens.offsets) - 1

    def batch(self, rows: Rows) -> dict[str, npt.NDArray[np.int64]]:
        """The inputs of a model for these rows, padded to the longest."""
        found = {"input_ids": self.tokens.padded(rows, self.pad), "attention_mask": self.tokens.mask(rows)}
        if self.types is not None:
            found["token_type_ids"] = self.types.padded(rows, 0)
        return found


def encode(tokenizer: Tokenizer, texts: Sequence[Sequence[str]], max_length: int) -> EncodedRows:
    """Rows of one text or two as tokens, as training makes them: cut at ``max_length`` tokens, of a pair the longer
    text first. There is at least one row."""
    columns = [list(column) for column in zip(*texts, strict=True)]
    encoded = tokenizer(*columns, truncation="longest_first", max_length=max_length, padding=False)
    with_types = len(columns) == 2 and "token_type_ids" in encoded
    types = _ragged(encoded["token_type_ids"]) if with_types else None
    return EncodedRows(_ragged(encoded["input_ids"]), types, int(tokenizer.pad_token_id))


def _ragged(rows: Sequence[Sequence[int]]) -> Ragged:
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return Ragged(np.fromiter((value for row in rows for value in row), np.int32, int(offsets[-1])), offsets)
