"""The curves of a training: which values are recorded in an epoch, and the TensorBoard files that hold them."""

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

from stages.atomic import replacing
from stages.corpus.batches import Rows
from stages.specs.schedule import CANDIDATES, GENERATED, EpochPlan
from stages.training.checkpoint import Epoch

MAX_POINTS = 50
"""The number of points into which an epoch is divided, at most; its last step may add one."""


@dataclass(frozen=True, slots=True)
class Point:
    """Values by TensorBoard tag. ``step`` counts the optimizer steps and ``seconds`` the training time since the start
    of training, over all epochs."""

    step: int
    seconds: float
    values: dict[str, float] = field(default_factory=dict)


WriteCurves = Callable[[int, Sequence[Point]], None]
"""A function that writes the points of an epoch, given the epoch's number from 1."""


class CurveSampler:
    """Samples the sums of an epoch at regular steps, at most ``MAX_POINTS`` + 1 times.

    A sample is a list of numbers: the steps done in the epoch, the seconds of training in all epochs, then the sums
    over the epoch's rows so far of the loss and of its ``terms``.
    """

    def __init__(self, terms: Sequence[str], steps: int, samples: Sequence[Sequence[float]]) -> None:
        """``steps`` is the length of the epoch. ``samples`` are those from before an interruption."""
        self._sums = 1 + len(terms)
        self._steps = steps
        self._every = -(-steps // MAX_POINTS)
        self._samples = [list(sample) for sample in samples]
        self._on_device: list[tuple[int, float, Tensor]] = []

    def sample(self, step: int, seconds: float, sums: Tensor) -> None:
        """Call after each step, numbered from 1. Does not wait for the device."""
        if step % self._every == 0 or step == self._steps:
            self._on_device.append((step, seconds, sums[: self._sums].clone()))

    def samples(self) -> list[list[float]]:
        """All samples so far. Blocks until the device has computed them."""
        self._samples += [[step, seconds, *sums.tolist()] for step, seconds, sums in self._on_device]
        self._on_device.clear()
        return self._samples


def curve_points(
    terms: Sequence[str],
    samples: Sequence[Sequence[float]],
    batches: Sequence[Rows],
    lengths: npt.NDArray[np.integer],
    steps_before: int,
    seconds_before: float,
) -> list[Point]:
    """A point for each sample of an epoch, with the mean losses and the speed since the sample before.

    ``terms`` are the names of the sums that follow the loss in a sample. ``batches`` are all batches of the epoch, an
    empty one for a step that did not train the student, ``lengths`` the tokens of each row of train; ``steps_before``
    and ``seconds_before`` are the steps and the seconds of training before the epoch. A term that is 0 is left out.
    """
    rows = np.cumsum([0, *(len(batch) for batch in batches)])
    tokens = np.cumsum([0, *(int(lengths[batch].sum()) for batch in batches)])
    found = []
    last = [0.0, seconds_before, *[0.0] * (1 + len(terms))]
    for sample in samples:
        start, end = int(last[0]), int(sample[0])
        new, seconds = rows[end] - rows[start], sample[1] - last[1]
        sums = dict(zip(("total", *terms), np.subtract(sample[2:], last[2:]), strict=True))
        named = sums.items() if new else ()
        values = {f"loss/{name}": float(total / new) for name, total in named if name == "total" or total}
        if seconds > 0:
            values["speed/rows_per_second"] = float(new / seconds)
            values["speed/tokens_per_second"] = float((tokens[end] - tokens[start]) / seconds)
        found.append(Point(steps_before + end, sample[1], values))
        last = list(sample)
    return found


def epoch_values(epoch: Epoch, plan: EpochPlan, scored: Mapping[str, float], memory: int | None) -> dict[str, float]:
    """The values of an epoch as a whole, by tag, for its last point: weights and schedule of its ``plan``, the metrics
    ``scored`` and the loss on the split that selects the best epoch, its mean training loss, the entries of
    participants, the largest weights of attention, and the peak memory of the GPU in bytes (None on a CPU)."""
    values = {f"weight/{term.name}": float(term.weight) * (1 - plan.generated) for term in plan.terms}
    if plan.candidates:
        values[f"weight/{CANDIDATES}"] = float(plan.candidates)
    if plan.generated:
        values[f"weight/{GENERATED}"] = float(plan.generated)
    for term in plan.terms:
        values |= {f"schedule/{name}": value for name, value in term.schedule.items()}
    values |= {f"selection/{metric}": score for metric, score in scored.items()}
    values["selection/loss"] = epoch.selection_loss
    if epoch.loss is not None:
        values["epoch/loss"] = epoch.loss
    for participant, entry in epoch.participants.items():
        values |= {f"{participant}/{name}": float(value) for name, value in entry.items() if _number(value)}
    values |= {f"attention/layer_{layer}": value for layer, value in enumerate(epoch.attention or (), 1)}
    if memory is not None:
        values["memory/gpu_peak_bytes"] = float(memory)
    return values


def _number(value: object) -> bool:
    return isinstance(value, int | float)


FOLDER = "tensorboard"
"""The folder of a student's artifact that holds its event files."""
VERSION = "brain.Event:2"
"""The format version in the first record of an event file."""


def curve_writer(folder: Path, clock: Callable[[], float]) -> WriteCurves:
    """A function that writes the points of each epoch to an event file in ``folder``, and deletes the files of later
    epochs, which an interrupted run may have left. ``clock`` returns the seconds since 1970."""

    def write_epoch(epoch: int, points: Sequence[Point]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for later in (path for path in folder.glob("events.*") if path.name > event_file_name(epoch)):
            later.unlink()
        write_events(folder / event_file_name(epoch), points, clock())

    return write_epoch


def event_file_name(epoch: int) -> str:
    """The name of the event file of an epoch. TensorBoard reads the files of a folder in the order of their names."""
    return f"events.out.tfevents.{epoch:06d}"


def write_events(path: Path, points: Sequence[Point], now: float) -> None:
    """Write ``points`` to the event file ``path``, atomically. The last point has the wall time ``now`` (seconds since
    1970); the others are earlier by the training time between them, so that interruptions leave no gap."""
    end = points[-1].seconds
    with replacing(path) as draft:
        writer = RecordWriter(os.fspath(draft))
        writer.write(Event(wall_time=now, file_version=VERSION).SerializeToString())
        for point in points:
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in point.values.items()]
            event = Event(wall_time=now - end + point.seconds, step=point.step, summary=Summary(value=values))
            writer.write(event.SerializeToString())
        writer.close()
