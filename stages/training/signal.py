"""The teachers' outputs for the rows of a batch, read from their stores or computed by a live model.

Outputs are tensors by name: ``logits`` [B, C] ([B, W, C] where rows have entries with outputs of their own), and for
example ``hidden_03`` [B, H], the pooled state of layer 3 (layer 0 is the embeddings), ``tokens_03`` [B, T, H], its
states at every token, or ``scores_03`` [B, heads, T, T], its attention scores; those of tokens are 0 at padding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from stages.corpus.batches import Rows
from stages.corpus.rowset import Batch
from stages.models.forward import forward, pooled_state
from stages.outputs.node_cache import Column, Columns, Positions
from stages.specs.layer_map import score_name, token_state_name
from stages.specs.layers import state_name
from stages.specs.schedule import OutputRequest


class Signal(Protocol):
    """A source of teacher outputs. No gradient flows through them."""

    @property
    def teachers(self) -> int:
        """The number of teachers."""
        ...

    def read(self, rows: Rows, request: OutputRequest, /) -> Mapping[str, Tensor]:
        """The requested outputs that are stored for these rows of the split, in host memory; {} if none is stored.
        The prefetching thread calls it ahead of the step and keeps the result as ``batch.read``."""
        ...

    def __call__(self, batch: Batch, request: OutputRequest, /) -> Mapping[str, Tensor]:
        """All requested outputs for the rows of ``batch``, in float32 on its device."""
        ...


@dataclass(frozen=True, slots=True)
class NoTeacher:
    """The signal of a method without teachers: no outputs."""

    teachers: int = 0

    def read(self, _rows: Rows, _request: OutputRequest, /) -> Mapping[str, Tensor]:
        return {}

    def __call__(self, _batch: Batch, _request: OutputRequest, /) -> Mapping[str, Tensor]:
        return {}


@dataclass(frozen=True, slots=True)
class StoredSignal:
    """Outputs from teacher-output stores. ``logits`` holds the columns of each teacher, by number; ``layers`` the
    columns of the teachers whose layers the student may follow; ``names`` maps a layer to its column.
    ``temperatures`` has a number for each teacher, by which its logits are divided; () for logits as they are stored.
    ``positions`` has the columns of every token that the student may follow, by their names; if there are any, they are
    read in the place of ``layers``.
    """

    logits: Sequence[Columns] = ()
    layers: Sequence[Columns] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    temperatures: Sequence[float] = ()
    positions: Mapping[str, Positions] = field(default_factory=dict)

    @property
    def teachers(self) -> int:
        return max(len(self.logits), len(self.layers))

    def read(self, rows: Rows, request: OutputRequest) -> Mapping[str, Tensor]:
        found = {"logits": self._mean(rows, request)} if request.logits else {}
        for layer in request.layers:
            if self.positions:
                names = [name for name in (token_state_name(layer), score_name(layer)) if name in self.positions]
                found |= {name: self.positions[name].padded(name, rows) for name in names}
            else:
                found[state_name(layer)] = self.layers[request.teacher].gather(self.names[layer], rows)
        return {name: torch.from_numpy(values) for name, values in found.items()}

    def _mean(self, rows: Rows, request: OutputRequest) -> Column:
        """[len(rows), C]: the mean of the requested teachers' logits, weighted by their shares. The logits of a single
        teacher are returned unchanged, unless they are divided by its temperature."""
        by_teacher = [self._logits_of(teacher, rows) for teacher, _ in request.logits]
        if len(by_teacher) == 1:
            return by_teacher[0]
        mean: Column = np.average(np.stack(by_teacher), axis=0, weights=[share for _, share in request.logits])
        return mean.astype(np.float32)

    def _logits_of(self, teacher: int, rows: Rows) -> Column:
        """[len(rows), C]: the logits of one teacher, divided by its temperature if there are temperatures."""
        stored = self.logits[teacher].gather("logits", rows)
        return stored.astype(np.float32) / np.float32(self.temperatures[teacher]) if self.temperatures else stored

    def __call__(self, batch: Batch, _request: OutputRequest) -> Mapping[str, Tensor]:
        return {name: values.float() for name, values in batch.read.items()}


@dataclass(frozen=True, slots=True)
class LiveSignal:
    """Outputs of a teacher model that runs on every batch. ``model`` is in eval mode; ``pooling`` (``mean`` or ``cls``)
    is how the states of requested layers are pooled."""

    model: nn.Module
    pooling: str = "mean"
    teachers: int = 1

    def read(self, _rows: Rows, _request: OutputRequest) -> Mapping[str, Tensor]:
        return {}

    def __call__(self, batch: Batch, request: OutputRequest) -> Mapping[str, Tensor]:
        with torch.inference_mode():
            found = forward(self.model, batch.inputs, hidden=bool(request.layers))
            outputs = {
                state_name(layer): pooled_state(found.states[layer], found.mask, self.pooling)
                for layer in request.layers
            }
        # Tensors from inference mode cannot take part in a loss; clones made outside of it can.
        return {name: values.float().clone() for name, values in {"logits": found.logits, **outputs}.items()}
