"""What takes part in the steps of a training beside the task's own rows: candidates, or an adversary.

A participant may have parameters, an optimizer and a state of its own, which the checkpoint keeps by its name. The loop
knows this protocol, and none of them by name.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from stages.corpus.batches import Rows
from stages.specs.schedule import EpochPlan
from stages.training.checkpoint import State

Sums = Mapping[str, Tensor]
"""Sums over the rows of a step by the place of ``SumLayout`` to which they are added."""


class Participant(Protocol):
    """Takes part in each step of the epochs in which ``is_active``."""

    @property
    def name(self) -> str:
        """Its name among the parts of a checkpoint, the sums of an epoch and the entries of the history."""
        ...

    @property
    def sums(self) -> int:
        """The number of sums over the rows of an epoch that it keeps, beside its loss."""
        ...

    def state(self) -> State:
        """All that a training which is resumed needs of it."""
        ...

    def load_state(self, state: State, /) -> None: ...

    def is_active(self, plan: EpochPlan, /) -> bool:
        """Whether it takes part in the steps of this epoch."""
        ...

    def start_epoch(self, plan: EpochPlan, /) -> None:
        """Called by all workers before the first step of an epoch in which it is active, or where such an epoch is
        resumed."""
        ...

    def prepare(self, rows: Rows, plan: EpochPlan, /) -> Any:
        """What ``join`` needs for a step on these rows of train, in host memory. The prefetching thread calls it."""
        ...

    def join(self, prepared: Any, rows: int, plan: EpochPlan, /) -> Sums:
        """Run its forward and backward passes of a step, before those on the rows of this worker, and return its sums.
        ``rows`` is the size of the global batch."""
        ...

    def entry(self, sums: list[float], /) -> dict[str, Any] | None:
        """Its entry for an epoch of the history, from its sums over the epoch; None if it took no part."""
        ...

    def line(self, entry: Mapping[str, Any], /) -> str:
        """The entry as text for the line that is written when an epoch ends."""
        ...
