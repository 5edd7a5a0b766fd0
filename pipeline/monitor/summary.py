"""A run's summary: one value, computed from the run's course and a clock. Terminal, log and page show it alike."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.monitor.eta import Left, time_left
from pipeline.monitor.run_state import About, Course, End, Stint, dependants
from pipeline.recipe import STAGES


@dataclass(frozen=True, slots=True)
class Counts:
    """Nodes by how they stand. ``held`` wait for another run that builds them, ``blocked`` need one that failed."""

    total: int = 0
    done: int = 0
    running: int = 0
    failed: int = 0
    blocked: int = 0
    held: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """The nodes of a task, or of a stage. A task named '' is what no task has for itself, such as a bank."""

    name: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class Running:
    """A node that runs. ``share`` is 0 to 1; it and ``left`` (seconds) are None where nothing tells."""

    key: str
    name: str
    task: str
    role: str
    seconds: float
    amount: float
    total: float
    unit: str
    rate: float
    share: float | None
    left: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A node that failed: why, in one line, and how many nodes are not run because they need it."""

    key: str
    name: str
    task: str
    why: str
    blocks: int


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run stands at ``now``. Counts are of what this run builds; ``reused`` artifacts were there before.

    ``cpu_hours`` and ``gpu_hours`` are what nodes were given, times how long they ran: what a bill would count, not
    how busy the processors were.
    """

    about: About
    end: End
    now: float
    elapsed: float
    counts: Counts
    tasks: tuple[Group, ...]
    stages: tuple[Group, ...]
    running: tuple[Running, ...]
    faults: tuple[Fault, ...]
    held: tuple[tuple[str, str], ...]
    cpu_hours: float
    gpu_hours: float
    left: Left
    reused: int


def summary(course: Course, now: float) -> Summary:
    """The summary of a run at ``now``, in seconds by the run's clock."""
    if course.end != "running":
        now = course.ended
    stints = course.stints
    tasks = dict.fromkeys(stint.task for stint in stints)
    stages = sorted(dict.fromkeys(stint.role for stint in stints), key=_order)
    running = sorted((stint for stint in stints if stint.state == "running"), key=lambda stint: stint.began)
    return Summary(
        about=course.about,
        end=course.end,
        now=now,
        elapsed=max(0.0, now - course.about.started),
        counts=counts(stints),
        tasks=tuple(Group(task, counts([stint for stint in stints if stint.task == task])) for task in tasks),
        stages=tuple(Group(role, counts([stint for stint in stints if stint.role == role])) for role in stages),
        running=tuple(_running(stint, now) for stint in running),
        faults=tuple(_fault(stint, stints) for stint in stints if stint.state == "failed"),
        held=tuple((stint.name, stint.why) for stint in stints if stint.state == "held"),
        cpu_hours=sum(stint.spent(now)[0] for stint in stints) / 3600,
        gpu_hours=sum(stint.spent(now)[1] for stint in stints) / 3600,
        left=time_left(course, now),
        reused=course.reused,
    )


def counts(stints: Sequence[Stint]) -> Counts:
    return Counts(total=len(stints), **Counter(str(stint.state) for stint in stints))


def _order(role: str) -> int:
    return STAGES.index(role) if role in STAGES else len(STAGES)


def _running(stint: Stint, now: float) -> Running:
    return Running(
        key=stint.key,
        name=stint.name,
        task=stint.task,
        role=stint.role,
        seconds=stint.seconds(now),
        amount=stint.amount,
        total=stint.total,
        unit=stint.unit,
        rate=stint.rate(now),
        share=min(1.0, stint.amount / stint.total) if stint.total else None,
        left=stint.left(now),
        note=stint.note,
    )


def _fault(stint: Stint, stints: Sequence[Stint]) -> Fault:
    blocked = {other.key for other in stints if other.state == "blocked"}
    return Fault(stint.key, stint.name, stint.task, stint.why, len(blocked & dependants(stints, stint.key)))
