"""Our batches for the loops of other projects: rows of similar length, padded to the longest row of the batch."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Sampler

from benchmarks import bare_loop
from benchmarks.scene import BATCH
from stages.corpus.batches import epoch_batches
from stages.corpus.rowset import Rowset
from stages.specs.seeds import seed_of

Item = tuple[Tensor, Tensor]
Batch = TypeVar("Batch")


class Buckets(Sampler[list[int]]):
    """The batches that our loop takes for ``seed``; each iteration gives those of the next epoch."""

    def __init__(self, lengths: npt.NDArray[Any], seed: int) -> None:
        self.lengths, self.seed, self.epoch = lengths, seed, 0

    def __iter__(self) -> Iterator[list[int]]:
        batches = epoch_batches(self.lengths, BATCH, seed_of(self.seed, 0, self.epoch))
        self.epoch += 1
        return iter([batch.tolist() for batch in batches])

    def __len__(self) -> int:
        return -(-len(self.lengths) // BATCH)


def named(items: Sequence[Item], pad: int) -> dict[str, Tensor]:
    """A batch in the form in which TextBrewer passes it to models."""
    ids = pad_sequence([row for row, _ in items], batch_first=True, padding_value=pad)
    return {
        "input_ids": ids,
        "attention_mask": (ids != pad).long(),
        "token_type_ids": torch.zeros_like(ids),
        "labels": torch.stack([label for _, label in items]),
    }


def listed(items: Sequence[Item], pad: int) -> tuple[Tensor, ...]:
    """The same tensors, in the order of the original code's batches."""
    return tuple(named(items, pad).values())


def helped(rows: Rowset, form: Callable[[Sequence[Item], int], Batch], seed: int = 0) -> DataLoader[Item]:
    """A loader of ``rows`` in our batches."""
    tensors = bare_loop.split_rows(rows.examples.tokens.values, rows.examples.tokens.offsets)
    items = list(zip(tensors, rows.labels, strict=True))
    buckets = Buckets(rows.costs, seed)
    return DataLoader(items, batch_sampler=buckets, collate_fn=lambda chosen: form(chosen, rows.examples.pad))  # type: ignore[arg-type]
