"""What a pretraining minimises: the interface between the training loop and the kinds of objective.

The loop (``loop.py``) has the optimizer, the schedule, the workers and the checkpoints. An objective has the trained
modules, makes the batch of a step, gives the sums of its losses, and scores the held-out texts.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, Protocol, Self, TypeVar

import torch
import torch.distributed
from torch import Tensor, nn

from cluster.resources import Worker
from stages.corpus.batches import Rows, sorted_batches, steps_of
from stages.corpus.rowset import Rowset
from stages.device_turn import TURN
from stages.pretraining.progress import HeldOutScore, PretrainingEpoch, TeacherLosses
from stages.specs.pretraining import PretrainSpec

HELD_OUT_ROWS, HELD_OUT_TOKENS = 64, 8192
"""The most rows and padded tokens of a batch of held-out texts. The tokens that a masked language model predicts there
depend on them."""

NoteEpoch = Callable[[PretrainingEpoch, float], None]
"""Called by the first worker with each epoch that has ended, and the learning rate of its last step."""


@dataclass(frozen=True, slots=True)
class PretrainingSetup:
    """The inputs of every pretraining: its spec, the tokenised texts to train on and those to measure on, and the file
    of the checkpoint, which is written at most every ``checkpoint_seconds``."""

    spec: PretrainSpec
    texts: Rowset
    held_out: Rowset
    checkpoint: Path
    checkpoint_seconds: float = 30.0
    clock: Callable[[], float] = time.monotonic
    note_epoch: NoteEpoch = lambda *_: None

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.spec.steps_of(len(self.texts))

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch that is not cut short by ``spec.steps``."""
        return steps_of(len(self.texts), self.spec.batch_size)


class StepBatch(Protocol):
    """A worker's part of the batch of a step."""

    @property
    def rows(self) -> int:
        """The number of rows that this worker reads."""
        ...

    def pinned(self) -> Self:
        """The batch in pinned memory, from which a GPU can copy while it computes."""
        ...

    def to(self, device: str, /) -> Self:
        """The batch on ``device``. A copy from pinned memory is asynchronous."""
        ...


BatchKind = TypeVar("BatchKind", bound=StepBatch)


class Objective(ABC, Generic[BatchKind]):
    """What a pretraining minimises, on one worker.

    ``module`` is what a step calls, and what data parallelism wraps. ``parts`` are the trained modules by their names
    in a checkpoint. ``weights`` has the weight of each loss, the main one first.
    """

    module: nn.Module
    parts: Mapping[str, nn.Module]
    weights: tuple[float, ...]
    held_out_figures: ClassVar[int]
    """The number of the sums from which the score on held-out texts is made."""

    def __init__(self, setup: PretrainingSetup, worker: Worker) -> None:
        self.setup = setup
        self.worker = worker

    @property
    @abstractmethod
    def trained(self) -> nn.Module:
        """The module that holds every trained parameter."""

    @abstractmethod
    def step_batch(self, rows: Rows, epoch: int, step: int, /) -> BatchKind:
        """This worker's part of the batch ``rows`` in host memory. Runs in the prefetching thread. ``epoch`` and
        ``step`` count from 0."""

    @abstractmethod
    def counts(self, batch: BatchKind, /) -> Sequence[int]:
        """For each loss, the number of items of the batch, over all workers, of which the loss is a mean."""

    @abstractmethod
    def loss_sums(self, module: nn.Module, batch: BatchKind, epoch: int, /) -> Sequence[Tensor]:
        """The sum of each loss over this worker's items of a batch on its device, in float32 and before it is weighted.
        ``module`` is ``self.module``, under data parallelism if there are several workers."""

    def held_out_score(self) -> HeldOutScore:
        """The score on the held-out texts. Workers share the batches; all return the whole score. The trained modules
        are left in train mode."""
        sums = torch.zeros(self.held_out_figures, dtype=torch.float64, device=self.worker.device)
        batches = sorted_batches(self.setup.held_out.costs, HELD_OUT_TOKENS, HELD_OUT_ROWS)
        self.module.eval()
        with torch.inference_mode():
            for number, rows in list(enumerate(batches))[self.worker.rank :: self.worker.world_size]:
                with TURN:
                    sums += self.held_out_sums(rows, number)
        self.module.train()
        if self.worker.world_size > 1:
            torch.distributed.all_reduce(sums)
        return self.score_of(sums.tolist())

    @abstractmethod
    def held_out_sums(self, rows: Rows, number: int, /) -> Tensor:
        """[``held_out_figures``], float64: the sums over these held-out rows, the batch of this number, of which
        ``score_of`` makes the score."""

    @abstractmethod
    def score_of(self, sums: Sequence[float], /) -> HeldOutScore:
        """The score, from the sums over all held-out rows."""

    def teacher_losses(self, _means: Sequence[float], /) -> TeacherLosses | None:
        """The distances from a teacher that runs in the training, of the means of all losses but the first in an epoch;
        None for an objective without them."""
        return None
