"""Where the time went: seconds by kind of stage, and bars for the stages of a run."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.artifacts.record import Record
from pipeline.graph.nodes import Node
from pipeline.report.rows import Results

TIME_KINDS = {
    "finetune": "teacher",
    "teach": "teacher",
    "calibrate": "teacher",
    "distil": "student",
    "pretrain": "student",
    "evaluate": "score",
}
"""Role of a node -> the kind of its bar; every other role is ``other``."""


@dataclass(frozen=True, slots=True)
class StageTime:
    """The artifacts of a role: how many there are, the seconds that they took (each by the clock, so that stages that
    ran side by side count each), and their share of all seconds, 0 to 1."""

    role: str
    kind: str
    artifacts: int
    seconds: float
    share: float


@dataclass(frozen=True, slots=True)
class TimeBar:
    """A stage in the picture of a run's time. ``left`` and ``width`` are percentages of the run's time, ``about`` is
    its text in full, and ``href`` the path of its log, '' for none."""

    name: str
    kind: str
    critical: bool
    left: float
    width: float
    about: str
    href: str


@dataclass(frozen=True, slots=True)
class TimePicture:
    """The stages of a run in lanes, over a time of ``length``, with ``about``: what the end waited for. ``title`` names
    the run, '' on the page of that run itself."""

    title: str
    length: str
    lanes: tuple[tuple[TimeBar, ...], ...]
    about: str


def time_by_stage(results: Results) -> tuple[StageTime, ...]:
    """The time of each role of which something is built, the longest first."""
    by_role: dict[str, list[Record]] = {}
    for node, record in _built(results):
        by_role.setdefault(node.role, []).append(record)
    seconds = {role: sum(record.seconds for record in records) for role, records in by_role.items()}
    total = sum(seconds.values()) or 1.0
    found = [
        StageTime(role, TIME_KINDS.get(role, "other"), len(records), seconds[role], seconds[role] / total)
        for role, records in by_role.items()
    ]
    return tuple(sorted(found, key=lambda one: -one.seconds))


def _built(results: Results) -> Sequence[tuple[Node, Record]]:
    found = [(node, results.records[node.key]) for node in results.graph.nodes]
    return [(node, record) for node, record in found if record is not None]
