"""Event files, read as their format says, and by TensorBoard itself where it is installed."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from stages.training.tensorboard import VERSION, Point, curve_writer, event_file_name

ONE = [Point(1, 2.0, {"loss/total": 0.5}), Point(2, 5.0, {"loss/total": 0.25, "epoch/loss": 0.375})]
TWO = [Point(3, 6.0, {"loss/total": 0.125})]


def crc32c(data: bytes) -> int:
    """Castagnoli's, bit by bit, and masked as the format has it."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(path: Path) -> Iterator[Event]:
    """length, its checksum, record, its checksum; and so on to the end."""
    data = path.read_bytes()
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        record = data[at + 12 : at + 12 + length]
        assert struct.unpack_from("<I", data, at + 8) == (crc32c(data[at : at + 8]),)
        assert struct.unpack_from("<I", data, at + 12 + length) == (crc32c(record),)
        event = Event()
        event.ParseFromString(record)
        yield event
        at += 16 + length


def test_a_file_holds_the_points_of_its_epoch_at_the_times_of_training(tmp_path: Path) -> None:
    curve_writer(tmp_path, lambda: 1000.0)(1, ONE)
    head, *rest = events(tmp_path / event_file_name(1))
    assert head.file_version == VERSION
    assert [(event.wall_time, event.step) for event in rest] == [(997.0, 1), (1000.0, 2)]
    found = [{value.tag: value.simple_value for value in event.summary.value} for event in rest]
    assert found == [dict(point.values) for point in ONE]


def test_an_epoch_that_is_written_again_replaces_its_file_and_removes_later_ones(tmp_path: Path) -> None:
    write = curve_writer(tmp_path, lambda: 1000.0)
    for epoch, points in ((1, ONE), (2, TWO), (1, ONE)):
        write(epoch, points)
    assert [path.name for path in tmp_path.iterdir()] == [event_file_name(1)]
    write(2, TWO)
    steps = [event.step for path in sorted(tmp_path.iterdir()) for event in events(path) if event.summary.value]
    assert steps == [1, 2, 3]


def test_a_file_that_an_earlier_attempt_shares_by_a_hard_link_is_not_changed(tmp_path: Path) -> None:
    """The next attempt starts with hard links to it."""
    curve_writer(tmp_path / "old", lambda: 1.0)(1, ONE)
    (tmp_path / "new").mkdir()
    os.link(tmp_path / "old" / event_file_name(1), tmp_path / "new" / event_file_name(1))
    before = (tmp_path / "old" / event_file_name(1)).read_bytes()
    curve_writer(tmp_path / "new", lambda: 2.0)(1, TWO)
    assert (tmp_path / "old" / event_file_name(1)).read_bytes() == before


def test_tensorboard_reads_the_files(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write = curve_writer(tmp_path, lambda: 1000.0)
    write(1, ONE)
    write(2, TWO)
    read = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [(one.step, one.value) for one in read.Scalars("loss/total")] == [(1, 0.5), (2, 0.25), (3, 0.125)]
