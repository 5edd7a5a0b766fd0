"""Whose turn each step of a phase is: the student's, or a participant's own, in which the student is not trained."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from stages.corpus.batches import Rows
from stages.specs.axes.optimizers import LinearRate, RateSchedule, rate_factor


@dataclass(frozen=True, slots=True)
class Turns:
    """The turns of a phase: for each of its steps, whether it is a participant's ``own``. ``own_before`` [steps + 1]
    counts the participant's turns before each step. ``schedule`` is that of the student's learning rate."""

    own: npt.NDArray[np.bool_]
    schedule: RateSchedule = field(default_factory=LinearRate)
    own_before: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "own_before", np.concatenate([[0], np.cumsum(self.own, dtype=np.int64)]))

    def is_own(self, step: int) -> bool:
        """Whether this step, counted from 0 within the phase, is a participant's own."""
        return bool(self.own[step])

    def factor(self, step: int, warmup: float) -> float:
        """The factor of the peak learning rate of what this step trains. The student's rises and falls over the steps
        that train the student, and that of a participant, which is linear, over its own."""
        own_before, own = int(self.own_before[step]), int(self.own_before[-1])
        if self.is_own(step):
            return rate_factor(LinearRate(), own_before, own, warmup)
        return rate_factor(self.schedule, step - own_before, len(self.own) - own, warmup)

    def student_rate(self, steps: int, warmup: float) -> float:
        """The factor of the student's learning rate in the last of the first ``steps`` steps that trained it; the first
        one's where none did."""
        done = steps - int(self.own_before[steps])
        return rate_factor(self.schedule, max(done - 1, 0), len(self.own) - int(self.own_before[-1]), warmup)

    def student_batches(self, epoch: int, batches: Sequence[Rows]) -> list[Rows]:
        """The batches of an epoch, without their rows where a step does not train the student."""
        own = self.own[epoch * len(batches) : (epoch + 1) * len(batches)]
        return [batch[:0] if turn else batch for batch, turn in zip(batches, own, strict=True)]
