"""What a teacher says about a batch: read from its store, or asked of the model itself.

Names: ``logits`` [B, C], and ``hidden_03`` [B, H] for the pooled state of layer 3 (0 the embeddings).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from stages.batches import Rows
from stages.data import Batch
from stages.models import forward, pool
from stages.structure import state_name

Column = npt.NDArray[np.generic]


class Signal(Protocol):
    """Named tensors for the rows of a batch. Never part of the student's graph."""

    def read(self, rows: Rows, /) -> Mapping[str, Tensor]:
        """What of it lies ready for these rows of the split, in host memory. Called from another thread, before the
        batch is needed; it becomes ``batch.read``."""
        ...

    def __call__(self, batch: Batch, /) -> Mapping[str, Tensor]:
        """All of it, in float32 on the batch's device."""
        ...


class Columns(Protocol):
    """Columns of a store, row i of each belonging to row i of the split."""

    def gather(self, name: str, rows: Rows) -> Column:
        """[len(rows), width], float16 or float32."""
        ...


@dataclass(frozen=True, slots=True)
class NoTeacher:
    """Nobody teaches."""

    def read(self, _rows: Rows, /) -> Mapping[str, Tensor]:
        return {}

    def __call__(self, _batch: Batch, /) -> Mapping[str, Tensor]:
        return {}


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store of a teacher holds. ``names``: what the loss asks for -> its column."""

    columns: Columns
    names: Mapping[str, str] = field(default_factory=lambda: {"logits": "logits"})

    def read(self, rows: Rows) -> Mapping[str, Tensor]:
        return {name: torch.from_numpy(self.columns.gather(column, rows)) for name, column in self.names.items()}

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        return {name: values.float() for name, values in batch.read.items()}


@dataclass(frozen=True, slots=True)
class Live:
    """The teacher itself, in eval mode, run on every batch. ``layers``: whose pooled states are asked for too."""

    model: nn.Module
    layers: tuple[int, ...] = ()
    pooling: str = "mean"

    def read(self, _rows: Rows) -> Mapping[str, Tensor]:
        return {}

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        with torch.inference_mode():
            logits, hidden = forward(self.model, batch.inputs, hidden=bool(self.layers))
            mask = batch.inputs["attention_mask"]
            said = {state_name(layer): pool(hidden[layer], mask, self.pooling) for layer in self.layers}
        # Copies made outside of inference mode may take part in a loss.
        return {name: values.float().clone() for name, values in {"logits": logits, **said}.items()}
