"""A run's summary: one value, computed from the run's course and a clock. Terminal, log and page show it alike."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.monitor.eta import TimeLeft, time_left
from pipeline.monitor.run_state import About, End, NodeRun, RunState, dependants
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
class NodeGroup:
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
    tasks: tuple[NodeGroup, ...]
    stages: tuple[NodeGroup, ...]
    running: tuple[Running, ...]
    faults: tuple[Fault, ...]
    held: tuple[tuple[str, str], ...]
    cpu_hours: float
    gpu_hours: float
    left: TimeLeft
    reused: int


def summary(run_state: RunState, now: float) -> Summary:
    """The summary of a run at ``now``, in seconds by the run's clock."""
    if run_state.end != "running":
        now = run_state.ended
    node_runs = run_state.node_runs
    tasks = dict.fromkeys(node_run.task for node_run in node_runs)
    stages = sorted(dict.fromkeys(node_run.role for node_run in node_runs), key=_order)
    running = sorted(
        (node_run for node_run in node_runs if node_run.state == "running"), key=lambda node_run: node_run.began
    )
    return Summary(
        about=run_state.about,
        end=run_state.end,
        now=now,
        elapsed=max(0.0, now - run_state.about.started),
        counts=counts(node_runs),
        tasks=tuple(
            NodeGroup(task, counts([node_run for node_run in node_runs if node_run.task == task])) for task in tasks
        ),
        stages=tuple(
            NodeGroup(role, counts([node_run for node_run in node_runs if node_run.role == role])) for role in stages
        ),
        running=tuple(_running(node_run, now) for node_run in running),
        faults=tuple(_fault(node_run, node_runs) for node_run in node_runs if node_run.state == "failed"),
        held=tuple((node_run.name, node_run.why) for node_run in node_runs if node_run.state == "held"),
        cpu_hours=sum(node_run.spent(now)[0] for node_run in node_runs) / 3600,
        gpu_hours=sum(node_run.spent(now)[1] for node_run in node_runs) / 3600,
        left=time_left(run_state, now),
        reused=run_state.reused,
    )


def counts(node_runs: Sequence[NodeRun]) -> Counts:
    return Counts(total=len(node_runs), **Counter(str(node_run.state) for node_run in node_runs))


def _order(role: str) -> int:
    return STAGES.index(role) if role in STAGES else len(STAGES)


def _running(node_run: NodeRun, now: float) -> Running:
    return Running(
        key=node_run.key,
        name=node_run.name,
        task=node_run.task,
        role=node_run.role,
        seconds=node_run.seconds(now),
        amount=node_run.amount,
        total=node_run.total,
        unit=node_run.unit,
        rate=node_run.rate(now),
        share=min(1.0, node_run.amount / node_run.total) if node_run.total else None,
        left=node_run.left(now),
        note=node_run.note,
    )


def _fault(node_run: NodeRun, node_runs: Sequence[NodeRun]) -> Fault:
    blocked = {other.key for other in node_runs if other.state == "blocked"}
    return Fault(
        node_run.key, node_run.name, node_run.task, node_run.why, len(blocked & dependants(node_runs, node_run.key))
    )
