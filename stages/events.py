"""Curves as TensorBoard reads them: one event file an epoch, replaced whole, so that an epoch that is trained again
after a cut leaves no point twice."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from stages.curves import Draw, Point

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
