"""What takes part in the steps of a training beside the task's own rows: candidates, or an adversary.

A participant may have parameters, an optimizer and a state of its own, which the checkpoint keeps by its name. The loop
knows this protocol, and none of them by name.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from stages.corpus.batches import Rows
from stages.corpus.rowset import Batch
from stages.specs.axes.terms import Terms
from stages.specs.schedule import EpochPlan
from stages.training.checkpoint import State

Sums = Mapping[str, Tensor]
"""Sums over the rows of a step by the place of ``SumLayout`` to which they are added."""


@dataclass(frozen=True, slots=True)
class StepSize:
    """The number of ``rows`` of a global batch, and the factor ``weight`` of this worker's rows, 0 for a placeholder
    row."""

    rows: int
    weight: float


@dataclass(frozen=True, slots=True)
class OtherLoss:
    """What the loss of a form of the rows is where it is not that of the epoch: ``terms`` with the teachers' ``logits``
    [B, C] for this form, summed under ``name``."""

    terms: Terms
    logits: Tensor
    name: str


@dataclass
class View:
    """One of the forms in which the student reads the rows of a batch: the inputs of its forward pass, the share of the
    loss with them in the loss of the rows, and whether it is the ``last`` form. The sums of terms count the rows of the
    form by its share, or in full if no other form has these terms (``counts_in_full``).

    The loss is that of the epoch, or ``other``. After the passes, ``loss`` [B] is the loss of the rows in this form,
    and ``logits`` [B, C] are the student's. Where ``leaf`` is a tensor that the inputs depend on, ``gradient`` is that
    of the first term of the epoch for it, which is the term on the labels if the epoch has one.
    """

    inputs: Mapping[str, Tensor]
    share: float = 1.0
    last: bool = True
    other: OtherLoss | None = None
    counts_in_full: bool = False
    leaf: Tensor | None = None
    loss: Tensor | None = None
    logits: Tensor | None = None
    gradient: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a participant took beyond steps on the rows of train: the texts that the student was trained on in addition
    (``augmented_rows``, as often as they were read), and the rows that teachers read during the training
    (``live_teacher_rows``, a row for each teacher)."""

    augmented_rows: int = 0
    live_teacher_rows: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.augmented_rows + other.augmented_rows, self.live_teacher_rows + other.live_teacher_rows)


@dataclass(frozen=True, slots=True)
class Passes:
    """The forward and backward passes that a participant adds to a step: a pass on each of ``batches``, which are in
    host memory and have a method ``to`` a device, and ``sums`` over their rows that no pass computes."""

    batches: Sequence[Any]
    sums: Mapping[str, npt.NDArray[np.float64]]


class Participant:
    """Takes part in each step of the epochs in which ``is_active``. What a subclass leaves out, it does not do.

    ``name`` is its name among the parts of a checkpoint, the sums of an epoch and the entries of the history.
    """

    name: ClassVar[str] = ""
    changes_inputs: ClassVar[bool] = False
    """Whether the student reads the task's rows as ``views`` gives them."""
    has_passes: ClassVar[bool] = False
    """Whether what it does in a step is ``passes`` and nothing else, so that a GPU can run each of them as a graph."""

    @property
    def sums(self) -> int:
        """The number of sums over the rows of an epoch that it keeps, beside its loss."""
        return 0

    def state(self) -> State:
        """All that a training which is resumed needs of it."""
        return {}

    def load_state(self, state: State) -> None:
        """Go on from ``state``."""

    def is_active(self, _plan: EpochPlan) -> bool:
        """Whether it takes part in the steps of this epoch."""
        return True

    def start_epoch(self, plan: EpochPlan) -> None:
        """Called by all workers before the first step of an epoch in which it is active, or where such an epoch is
        resumed."""

    def turns(self, numbers: Rows) -> npt.NDArray[np.bool_]:
        """Which of the steps with these numbers, counted from 0 within a phase, are its own: ``take_turn`` is called in
        the place of a step of the student. The steps are those of epochs in which it is active."""
        return np.zeros(len(numbers), bool)

    def take_turn(
        self, _batches: Sequence[Batch], _prepared: Any, _step: StepSize, _plan: EpochPlan, _factor: float
    ) -> Sums:
        """Train the participant itself on these batches, and return its sums. ``prepared`` is from ``prepare``, or None
        for a placeholder row. ``factor`` is that of the learning rate, which rises and falls over its turns as the
        student's does over the other steps."""
        return {}

    def prepare(self, _rows: Rows, _plan: EpochPlan, _fit: Callable[[Batch], Batch]) -> Any:
        """What ``passes``, ``views`` and ``take_turn`` need for a step on these rows of train, in host memory. ``fit``
        brings a batch to the shape in which steps run. The prefetching thread calls it."""
        return None

    def passes(self, _prepared: Any, _plan: EpochPlan) -> Passes:
        """The passes of a step, which run before those on the rows of this worker."""
        return Passes((), {})

    def run_pass(self, batch: Any, rows: int, plan: EpochPlan) -> Tensor:
        """Forward and backward pass on one of the batches of ``passes``, on the device. Returns the sum [1] of its
        losses. ``rows`` is the size of the global batch."""
        raise NotImplementedError

    def pass_sums(self, loss: Tensor, plan: EpochPlan) -> Sums:
        """The sums over the rows of a step in which the passes had the sum of losses ``loss`` [1]."""
        raise NotImplementedError

    def views(self, batch: Batch, _prepared: Any, _plan: EpochPlan) -> Iterator[View]:
        """The forms in which the student reads these rows; their shares have the sum 1. The forward and backward passes
        of each run before the next is made. ``prepared`` is as for ``take_turn``."""
        yield View(batch.inputs)

    def collect(self) -> Tensor | None:
        """Its sums over the views of a step, once they are all through; None if it has none."""
        return None

    def write_files(self, _folder: Path, _student: nn.Module, _tokenizer: Path) -> None:
        """Write what the student's artifact keeps of it into ``folder``. The first worker calls it once training has
        ended; ``tokenizer`` is the folder of the student's tokenizer."""

    def entry(self, _sums: list[float]) -> dict[str, Any] | None:
        """Its entry for an epoch of the history, from its sums over the epoch; None if it took no part."""
        return None

    def line(self, _entry: Mapping[str, Any]) -> str:
        """The entry as text for the line that is written when an epoch ends."""
        return ""

    def cost(self, _entry: Mapping[str, Any]) -> Cost:
        """What it took in the epoch of this entry."""
        return Cost()
