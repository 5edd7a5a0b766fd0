"""Which tokens of a batch a masked language model has to predict, and what it reads in their place (Devlin et al. 2019,
section 3.1).

The choice is made for the whole batch of all workers and depends on a seed alone. So each worker knows how many tokens
all of them predict, and two workers read the same tokens as one.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.corpus.batches import Rows, share_of
from stages.corpus.rowset import Rowset, token_rows
from stages.models.masked.token_ids import Ids, TokenIds
from stages.specs.pretraining import Masking


@dataclass(frozen=True, slots=True)
class MaskedTokens:
    """Places of a batch [B, T] that are predicted: the numbers of their ``rows`` and ``columns``, in order of rows, and
    the ids that are read there (``shown``) and were there before (``targets``)."""

    rows: Ids
    columns: Ids
    shown: Ids
    targets: Ids


def chosen_tokens(ids_BT: Ids, mask_BT: Ids, masking: Masking, tokens: TokenIds, seed: int) -> MaskedTokens:
    """The tokens of a batch that are predicted: ``masking.share`` of all but special tokens and padding, to the nearest
    whole number, and at least one if there is any. ``mask_BT`` is 1 for a token and 0 for padding."""
    generator = np.random.Generator(np.random.PCG64(seed))
    rows, columns = np.nonzero((mask_BT == 1) & ~np.isin(ids_BT, tokens.special))
    count = min(len(rows), max(1, int(len(rows) * masking.share + 0.5)))
    places = np.sort(generator.permutation(len(rows))[:count])
    rows, columns = rows[places], columns[places]
    targets, draw = ids_BT[rows, columns], generator.random(count)
    drawn = tokens.drawn_from[generator.integers(0, len(tokens.drawn_from), count)]
    shown = np.where(draw < masking.masked, tokens.mask, targets)
    shown = np.where((draw >= masking.masked) & (draw < masking.masked + masking.random), drawn, shown)
    return MaskedTokens(rows, columns, shown, targets)


@dataclass(frozen=True, slots=True)
class MaskedBatch:
    """A worker's rows of a batch as a model reads them: ``inputs`` [B, T] by name, the ``places`` [M] in the flattened
    batch whose tokens are predicted, these tokens (``targets`` [M]), and the places of all tokens that are not padding
    (``attended`` [A]). Places rise. ``predicted`` and ``tokens`` are the numbers of predicted tokens and of all tokens
    of all workers; ``predicted`` is 0 if the batch consists of special tokens."""

    inputs: dict[str, Tensor]
    places: Tensor
    targets: Tensor
    attended: Tensor
    predicted: int
    tokens: int

    @property
    def rows(self) -> int:
        """The number of rows that this worker reads."""
        return len(self.inputs["input_ids"])

    def pinned(self) -> "MaskedBatch":
        """The batch in pinned memory, from which a GPU can copy while it computes."""
        inputs = {name: value.pin_memory() for name, value in self.inputs.items()}
        places, targets, attended = (value.pin_memory() for value in (self.places, self.targets, self.attended))
        return MaskedBatch(inputs, places, targets, attended, self.predicted, self.tokens)

    def to(self, device: str) -> "MaskedBatch":
        """The batch on ``device``. A copy from pinned memory is asynchronous."""
        inputs = {name: value.to(device, non_blocking=True) for name, value in self.inputs.items()}
        arrays = (self.places, self.targets, self.attended)
        places, targets, attended = (value.to(device, non_blocking=True) for value in arrays)
        return MaskedBatch(inputs, places, targets, attended, self.predicted, self.tokens)


def masked_batch(
    texts: Rowset, rows: Rows, masking: Masking, tokens: TokenIds, seed: int, rank: int = 0, world_size: int = 1
) -> MaskedBatch:
    """The part of worker ``rank`` of the batch ``rows``, in host memory. A worker for which no row is left gets one
    without a token to predict, since all workers take part in a step."""
    inputs = token_rows(texts).collate(rows)
    ids_BT, mask_BT = inputs["input_ids"], inputs["attention_mask"]
    chosen = chosen_tokens(ids_BT, mask_BT, masking, tokens, seed)
    ids_BT[chosen.rows, chosen.columns] = chosen.shown
    share = share_of(np.arange(len(rows)), rank, world_size)
    mine = share.rows
    arrays = {name: values[mine] for name, values in inputs.items()}
    own_row = np.full(len(rows), -1)
    own_row[mine] = np.arange(len(mine))
    own = (own_row[chosen.rows] >= 0) & (share.weight > 0)
    places = own_row[chosen.rows[own]] * ids_BT.shape[1] + chosen.columns[own]
    attended = np.flatnonzero(arrays["attention_mask"]) if share.weight > 0 else np.empty(0, np.int64)
    return MaskedBatch(
        {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in arrays.items()},
        torch.from_numpy(places),
        torch.from_numpy(chosen.targets[own]),
        torch.from_numpy(attended),
        len(chosen.targets),
        int(mask_BT.sum()),
    )
