"""What a teacher says about a batch: read from its store, or asked of the model itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from stages.data import Batch
from stages.models import forward


class Signal(Protocol):
    """Named tensors for the rows of a batch: ``logits`` [B, C]. Never part of the student's graph."""

    def __call__(self, batch: Batch, /) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True, slots=True)
class NoTeacher:
    """Nobody teaches."""

    def __call__(self, _batch: Batch, /) -> Mapping[str, Tensor]:
        return {}


@dataclass(frozen=True, slots=True)
class Stored:
    """Columns of the teacher-output store, row i of each belonging to row i of the split."""

    columns: Mapping[str, Tensor]

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        rows = torch.from_numpy(batch.rows)
        return {name: values[rows].to(batch.labels.device, non_blocking=True) for name, values in self.columns.items()}


@dataclass(frozen=True, slots=True)
class Live:
    """The teacher itself, in eval mode, run on every batch."""

    model: nn.Module

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        with torch.inference_mode():
            logits, _ = forward(self.model, batch.inputs)
        return {"logits": logits.float().clone()}
