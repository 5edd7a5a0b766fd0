"""The ids of a tokenizer that masking needs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenIds:
    """The ids of a tokenizer that masking needs: of its mask token, of all ``special`` tokens, which are never
    predicted, and of ``drawn_from``, the tokens that may stand at random in the place of another."""

    mask: int
    special: Ids
    drawn_from: Ids


def ids_for_masking(tokenizer: Any, model_tokens: int) -> TokenIds:
    """The ids of a tokenizer. ``model_tokens`` is the number of the model's word embeddings. Raises ValueError for a
    tokenizer without a mask token."""
    if tokenizer.mask_token_id is None:
        raise ValueError("the tokenizer has no mask token; give a model that was trained as a masked language model")
    special = np.array(sorted(tokenizer.all_special_ids), np.int64)
    known = np.array(sorted(set(tokenizer.get_vocab().values())), np.int64)
    drawn_from = np.setdiff1d(known[known < model_tokens], special)
    return TokenIds(int(tokenizer.mask_token_id), special, drawn_from)
