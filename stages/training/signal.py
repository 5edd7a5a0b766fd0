"""What teachers say about a batch: read from their stores, or asked of a model itself.

Names: ``logits`` [B, C], and ``hidden_03`` [B, H] for the pooled state of layer 3 (0 the embeddings).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from stages.corpus.batches import Rows
from stages.corpus.rowset import Batch
from stages.models.forward import forward, pool
from stages.outputs.node_cache import Column, Columns
from stages.specs.layers import state_name
from stages.specs.schedule import OutputRequest


class Signal(Protocol):
    """Named tensors for the rows of a batch. Never part of the student's graph."""

    @property
    def teachers(self) -> int:
        """How many teach."""
        ...

    def read(self, rows: Rows, request: OutputRequest, /) -> Mapping[str, Tensor]:
        """What of it lies ready for these rows of the split, in host memory. Called from another thread, before the
        batch is needed; it becomes ``batch.read``."""
        ...

    def __call__(self, batch: Batch, request: OutputRequest, /) -> Mapping[str, Tensor]:
        """All of it, in float32 on the batch's device."""
        ...


@dataclass(frozen=True, slots=True)
class NoTeacher:
    """Nobody teaches."""

    teachers: int = 0

    def read(self, _rows: Rows, _request: OutputRequest, /) -> Mapping[str, Tensor]:
        return {}

    def __call__(self, _batch: Batch, _request: OutputRequest, /) -> Mapping[str, Tensor]:
        return {}


@dataclass(frozen=True, slots=True)
class StoredSignal:
    """What the stores of teachers hold: ``logits`` has one for each, ``layers`` those whose layers may be followed.
    ``names``: layer -> its column."""

    logits: Sequence[Columns] = ()
    layers: Sequence[Columns] = ()
    names: Mapping[int, str] = field(default_factory=dict)

    @property
    def teachers(self) -> int:
        return max(len(self.logits), len(self.layers))

    def read(self, rows: Rows, request: OutputRequest) -> Mapping[str, Tensor]:
        found = {"logits": self._mean(rows, request)} if request.logits else {}
        for layer in request.layers:
            found[state_name(layer)] = self.layers[request.teacher].gather(self.names[layer], rows)
        return {name: torch.from_numpy(values) for name, values in found.items()}

    def _mean(self, rows: Rows, request: OutputRequest) -> Column:
        """[len(rows), C]: the teachers' logits by their shares. One alone is taken as it is."""
        if len(request.logits) == 1:
            return self.logits[request.logits[0][0]].gather("logits", rows)
        outputs = [self.logits[teacher].gather("logits", rows) for teacher, _ in request.logits]
        whole: Column = np.average(np.stack(outputs), axis=0, weights=[share for _, share in request.logits])
        return whole.astype(np.float32)

    def __call__(self, batch: Batch, _request: OutputRequest) -> Mapping[str, Tensor]:
        return {name: values.float() for name, values in batch.read.items()}


@dataclass(frozen=True, slots=True)
class LiveSignal:
    """The teacher itself, in eval mode, run on every batch. ``pooling`` is that of the layers that are asked for."""

    model: nn.Module
    pooling: str = "mean"
    teachers: int = 1

    def read(self, _rows: Rows, _request: OutputRequest) -> Mapping[str, Tensor]:
        return {}

    def __call__(self, batch: Batch, request: OutputRequest) -> Mapping[str, Tensor]:
        with torch.inference_mode():
            logits, hidden = forward(self.model, batch.inputs, hidden=bool(request.layers))
            mask = batch.inputs["attention_mask"]
            outputs = {state_name(layer): pool(hidden[layer], mask, self.pooling) for layer in request.layers}
        # Copies made outside of inference mode may take part in a loss.
        return {name: values.float().clone() for name, values in {"logits": logits, **outputs}.items()}
