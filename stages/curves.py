"""What there is to draw of a training: its losses by name, what they weigh, how fast it goes, how it scores.

The loop sums on the device, and asks it for nothing before an epoch ends or a checkpoint is due. So a curve is made of
sums as they stood at some steps, and each of its points is a mean over the steps since the one before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor

from stages.batches import Rows
from stages.checkpoint import Epoch
from stages.schedule import Weights
from stages.terms import TERMS

POINTS = 50
"""The most points of an epoch."""


@dataclass(frozen=True, slots=True)
class Point:
    """Values by name after so many steps and seconds of training, in all epochs."""

    step: int
    seconds: float
    values: dict[str, float] = field(default_factory=dict)


Draw = Callable[[int, Sequence[Point]], None]
"""Is given an epoch's number, from 1, and its points."""


class Sheet:
    """The sums of an epoch at some of its steps. A mark is (steps done, seconds of training, loss, its terms ...)."""

    def __init__(self, steps: int, marks: Sequence[Sequence[float]]) -> None:
        """``marks`` were made in an earlier sitting."""
        self._steps = steps
        self._every = -(-steps // POINTS)
        self._marks = [list(mark) for mark in marks]
        self._looks: list[tuple[int, float, Tensor]] = []

    def look(self, step: int, seconds: float, sums: Tensor) -> None:
        """Called after each step, numbered from 1. Does not wait for the device."""
        if step % self._every == 0 or step == self._steps:
            self._looks.append((step, seconds, sums[: 1 + len(TERMS)].clone()))

    def marks(self) -> list[list[float]]:
        """All marks so far. Waits for the device."""
        self._marks += [[step, seconds, *sums.tolist()] for step, seconds, sums in self._looks]
        self._looks.clear()
        return self._marks


def points(
    marks: Sequence[Sequence[float]],
    batches: Sequence[Rows],
    lengths: npt.NDArray[np.integer],
    before: int,
    since: float,
) -> list[Point]:
    """Losses and speed of an epoch with these batches. ``lengths`` are tokens by row; ``before`` and ``since`` are the
    steps and the seconds of training that were done when it began."""
    rows = np.cumsum([0, *(len(batch) for batch in batches)])
    tokens = np.cumsum([0, *(int(lengths[batch].sum()) for batch in batches)])
    found = []
    last = [0.0, since, *[0.0] * (1 + len(TERMS))]
    for mark in marks:
        start, end = int(last[0]), int(mark[0])
        new, seconds = rows[end] - rows[start], mark[1] - last[1]
        sums = dict(zip(("total", *TERMS), np.subtract(mark[2:], last[2:]), strict=True))
        values = {f"loss/{name}": float(total / new) for name, total in sums.items() if name == "total" or total}
        if seconds > 0:
            values["speed/rows_per_second"] = float(new / seconds)
            values["speed/tokens_per_second"] = float((tokens[end] - tokens[start]) / seconds)
        found.append(Point(before + end, mark[1], values))
        last = list(mark)
    return found


def at_the_end(epoch: Epoch, weighing: Weights, scored: Mapping[str, float], memory: int | None) -> dict[str, float]:
    """What is known of a whole epoch. ``memory`` is the most bytes that a GPU had in use."""
    values = {f"weight/{name}": float(getattr(weighing, name)) for name in TERMS if getattr(weighing, name)}
    if weighing.soft:
        values["schedule/temperature"] = weighing.temperature
    if weighing.match:
        values["schedule/scale"] = weighing.scale
    values |= {f"selection/{metric}": score for metric, score in scored.items()}
    values["epoch/loss"] = epoch.loss
    if epoch.candidates is not None:
        values |= {f"candidates/{name}": float(value) for name, value in epoch.candidates.items() if _number(value)}
    if memory is not None:
        values["memory/gpu_peak_bytes"] = float(memory)
    return values


def _number(value: object) -> bool:
    return isinstance(value, int | float)
