"""The curves of a training: what is drawn of an epoch, and the TensorBoard files that hold it."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter
from torch import Tensor

from stages.corpus.batches import Rows
from stages.specs.schedule import LossWeights
from stages.training.checkpoint import Epoch
from stages.training.losses import TERMS

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


class CurveSampler:
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


def at_the_end(epoch: Epoch, weights: LossWeights, scored: Mapping[str, float], memory: int | None) -> dict[str, float]:
    """What is known of a whole epoch. ``memory`` is the most bytes that a GPU had in use."""
    values = {f"weight/{name}": float(getattr(weights, name)) for name in TERMS if getattr(weights, name)}
    if weights.soft:
        values["schedule/temperature"] = weights.temperature
    if weights.match:
        values["schedule/scale"] = weights.scale
    values |= {f"selection/{metric}": score for metric, score in scored.items()}
    values["epoch/loss"] = epoch.loss
    if epoch.candidates is not None:
        values |= {f"candidates/{name}": float(value) for name, value in epoch.candidates.items() if _number(value)}
    if memory is not None:
        values["memory/gpu_peak_bytes"] = float(memory)
    return values


def _number(value: object) -> bool:
    return isinstance(value, int | float)


FOLDER = "tensorboard"
"""Of an artifact."""
VERSION = "brain.Event:2"
"""What an event file starts with."""


def drawer(folder: Path, clock: Callable[[], float]) -> Draw:
    """Writes each epoch's points below ``folder``. ``clock`` tells seconds since 1970."""

    def draw(epoch: int, points: Sequence[Point]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for later in (path for path in folder.glob("events.*") if path.name > name_of(epoch)):
            later.unlink()  # of a sitting that was cut
        write(folder / name_of(epoch), points, clock())

    return draw


def name_of(epoch: int) -> str:
    """TensorBoard reads the files of a folder in the order of their names."""
    return f"events.out.tfevents.{epoch:06d}"


def write(path: Path, points: Sequence[Point], now: float) -> None:
    """The file at ``path``, whole or not at all. The last point is of ``now``; others are as much earlier as they were
    in training time, whatever passed between sittings."""
    draft = path.with_name(path.name + ".tmp")
    end = points[-1].seconds
    writer = RecordWriter(os.fspath(draft))
    writer.write(Event(wall_time=now, file_version=VERSION).SerializeToString())
    for point in points:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in point.values.items()]
        event = Event(wall_time=now - end + point.seconds, step=point.step, summary=Summary(value=values))
        writer.write(event.SerializeToString())
    writer.close()
    os.replace(draft, path)
