"""Whose turn each step of a phase is: the student's, or a participant's own, in which the student is not trained."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.corpus.batches import Rows
from stages.training.optimizer import learning_rate


@dataclass(frozen=True, slots=True)
class Turns:
    """The turns of a phase: for each of its steps, whether it is a participant's ``own``."""

    own: npt.NDArray[np.bool_]

    def is_own(self, step: int) -> bool:
        """Whether this step, counted from 0 within the phase, is a participant's own."""
        return bool(self.own[step])

    def factor(self, step: int, warmup: float) -> float:
        """The factor of the peak learning rate of what this step trains. The student's rises and falls over the steps
        that train the student, and that of a participant over its own."""
        alike = self.own == self.own[step]
        return learning_rate(int(alike[:step].sum()), int(alike.sum()), warmup)

    def student_rate(self, steps: int, warmup: float) -> float:
        """The factor of the student's learning rate in the last of the first ``steps`` steps that trained it; the first
        one's where none did."""
        trained = np.flatnonzero(~self.own)
        done = int((~self.own[:steps]).sum())
        return learning_rate(max(done - 1, 0), len(trained), warmup)

    def student_batches(self, epoch: int, batches: Sequence[Rows]) -> list[Rows]:
        """The batches of an epoch, without their rows where a step does not train the student."""
        own = self.own[epoch * len(batches) : (epoch + 1) * len(batches)]
        return [batch[:0] if turn else batch for batch, turn in zip(batches, own, strict=True)]
