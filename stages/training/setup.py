"""What a training is given, and what holds in one of its epochs and steps."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import nn

from stages.corpus.rowset import Batch, Rowset
from stages.specs.layer_map import LayerGroup
from stages.specs.schedule import (
    LossWeights,
    OutputRequest,
    Position,
)
from stages.specs.student import DistilSpec
from stages.specs.tasks import Task
from stages.training.candidates import Pool
from stages.training.checkpoint import Progress
from stages.training.minimax import Prepared
from stages.training.signal import Signal
from stages.training.tensorboard import Draw


class LoopWorker(Protocol):
    """What the loop needs of the worker it runs in (see ``cluster.resources.Worker``)."""

    @property
    def rank(self) -> int: ...
    @property
    def world_size(self) -> int: ...
    @property
    def device(self) -> str: ...
    def advance(self, amount: float) -> None: ...
    def note(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """All that a training needs: what to learn from, what to be selected on, where to keep checkpoints.
    ``teacher_width`` is that of the teacher's layers, where some are followed; ``pool`` holds candidates, where the
    method asks for them. The first worker gives the model of each epoch, and the epoch's number, to ``keep``, and what
    there is to draw of it to ``draw``. ``resumable`` says whether a checkpoint's training may be continued."""

    spec: DistilSpec
    task: Task
    train: Rowset
    select: Rowset
    signal: Signal
    checkpoint: Path
    checkpoint_seconds: float = 30.0
    clock: Callable[[], float] = time.monotonic
    teacher_width: int = 0
    pool: Pool | None = None
    keep: Callable[[nn.Module, int], None] | None = None
    draw: Draw | None = None
    resumable: Callable[[Progress], bool] = lambda _: True


NO_CANDIDATES = Prepared()


@dataclass(frozen=True, slots=True)
class StepWork:
    """A worker's part of a step: its rows as batches of at most ``micro_batch``, what their losses are multiplied
    with, and the candidates beside them."""

    batches: Sequence[Batch]
    weight: float
    candidates: Prepared = NO_CANDIDATES


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """What holds in an epoch: what the losses weigh, what teachers are asked, which layers follow which."""

    position: Position
    weights: LossWeights
    request: OutputRequest
    groups: Sequence[LayerGroup]
