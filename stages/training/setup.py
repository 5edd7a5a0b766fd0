"""The inputs of a training, and the data of one step."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from stages.corpus.batches import Rows, parts
from stages.corpus.rowset import Batch, Rowset
from stages.models.masked.language_model import PlacePredictor
from stages.models.masked.token_ids import TokenIds
from stages.specs.schedule import OutputRequest
from stages.specs.student import DistilSpec
from stages.specs.tasks import Metric, Task
from stages.training.candidates import CandidatePool
from stages.training.checkpoint import Progress
from stages.training.live_teachers import LiveTeachers
from stages.training.signal import Signal
from stages.training.tensorboard import WriteCurves


class LoopWorker(Protocol):
    """The part of ``cluster.resources.Worker`` that the loop uses."""

    @property
    def rank(self) -> int: ...
    @property
    def world_size(self) -> int: ...
    @property
    def device(self) -> str: ...
    def advance(self, amount: float) -> None: ...
    def restore(self, amount: float) -> None: ...
    def note(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Generator:
    """A masked language model that makes rows, and the ids of the tokens that it never masks or writes."""

    model: PlacePredictor
    tokens: TokenIds


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """The inputs of a training.

    The student learns from ``train`` and ``signal``; each epoch is scored on ``select``, by which the best is selected
    (or, with ``train.select: last``, only watched). ``checkpoint`` is the file of the checkpoint, written at most every
    ``checkpoint_seconds``. ``teacher_widths`` are those of the teacher's layers, {} if the method follows none;
    ``candidate_pool`` is None for a method without candidates; ``live_teachers`` and ``generator`` (with its
    tokenizer's ids) for one without generated rows.

    At the end of each epoch the first worker calls ``save_epoch`` with the model and the epoch's number (from 1), and
    ``write_curves`` with that number and the epoch's points. ``resumable`` decides whether a training may be continued
    from the progress in a checkpoint.
    """

    spec: DistilSpec
    task: Task
    train: Rowset
    select: Rowset
    signal: Signal
    checkpoint: Path
    checkpoint_seconds: float = 30.0
    clock: Callable[[], float] = time.monotonic
    teacher_widths: Mapping[int, int] = field(default_factory=dict)
    candidate_pool: CandidatePool | None = None
    live_teachers: LiveTeachers | None = None
    generator: Generator | None = None
    save_epoch: Callable[[nn.Module, int], None] | None = None
    write_curves: WriteCurves | None = None
    resumable: Callable[[Progress], bool] = lambda _: True

    @property
    def select_metric(self) -> Metric:
        """The metric of the score by which the best epoch is selected."""
        return self.spec.train.select_metric or self.task.primary


@dataclass(frozen=True, slots=True)
class StepWork:
    """A worker's part of a step, in host memory: its rows in batches of at most ``micro_batch`` rows, the factor
    ``weight`` of their losses (0 for a placeholder row), and what participants prepared for these rows, by name."""

    batches: Sequence[Batch]
    weight: float
    prepared: Mapping[str, Any] = field(default_factory=dict)


def host_batches(train: Rowset, signal: Signal, rows: Rows, request: OutputRequest, max_rows: int) -> list[Batch]:
    """These rows of train as batches of at most ``max_rows`` rows in host memory, with the stored teacher outputs that
    ``request`` names."""
    batches = []
    for start, end in parts(len(rows), max_rows):
        read = signal.read(rows[start:end], request) if request else {}
        batches.append(replace(train.batch(rows[start:end], "cpu"), read=read))
    return batches
