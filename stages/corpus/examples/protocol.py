"""What a training knows of the inputs of rows: their number, what each costs to compute, and how rows become a batch.

Texts are one kind of example (``token_rows.py`` beside this module). The loop, the teachers' stores and the objectives
know this protocol alone.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from stages.corpus.batches import Rows

if TYPE_CHECKING:
    from torch import Tensor

Inputs = Mapping[str, "Tensor"]
"""The arguments of a model for a batch, by name; the first dimension of each is the batch's."""


class Examples(Protocol):
    """The inputs of N rows, in memory."""

    def __len__(self) -> int: ...

    @property
    def costs(self) -> npt.NDArray[np.int64]:
        """[N]: what each row costs to compute, in the unit in which a model's adapter bounds a pass: the tokens of a
        text, 1 for an input of fixed size. Rows of similar cost are put into one batch."""
        ...

    def collate(self, rows: Rows) -> dict[str, npt.NDArray[Any]]:
        """The arguments of a model for these rows, the longest of which sets the size of all."""
        ...

    def fitted(self, inputs: Inputs, longest: int | None) -> "dict[str, Tensor]":
        """``inputs`` of a batch enlarged to one of few sizes, at most ``longest`` (None: any), so that a captured step
        can be used again. What is added must not change what a model computes for the rows."""
        ...

    def take(self, rows: Rows) -> Self:
        """These rows, in this order."""
        ...

    def followed_by(self, other: Self) -> Self:
        """These rows, then the other's."""
        ...
