"""A run's summary: counts, cost and time left, computed from its state. Terminal, plain lines and page show it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.monitor.eta import TimeLeft, time_left
from pipeline.monitor.run_state import NodeRun, RunInfo, RunState, RunStatus, dependants
from pipeline.recipe import STAGES

PAUSED = "paused, more urgent stages run"
"""Shown for a node that has given up its workers."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of nodes by state. ``paused``: they gave up their workers for more urgent ones, and go on later.
    ``held``: another run builds them. ``blocked``: a node that they need failed."""

    total: int = 0
    done: int = 0
    running: int = 0
    failed: int = 0
    blocked: int = 0
    held: int = 0
    waiting: int = 0
    paused: int = 0


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """The nodes of a task, or of a stage. The task '' has the nodes that tasks share, such as a bank."""

    name: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node that runs: ``amount`` of ``total`` ``unit`` in ``seconds``. ``share`` (0 to 1) and ``left`` (seconds) are
    None where unknown. ``paused``: it has given up its workers for more urgent nodes. ``note`` is the last message of
    the stage."""

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
    paused: bool = False


@dataclass(frozen=True, slots=True)
class FailedNode:
    """A node that failed: ``why`` in one line, and the number of nodes that are not run because they need it."""

    key: str
    name: str
    task: str
    why: str
    blocks: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A run at ``now``. The counts are of nodes that this run builds; ``reused`` counts artifacts that existed before.

    ``cpu_hours`` and ``gpu_hours`` are CPUs and GPUs allotted, times hours run, as a cloud bills them: allocation, not
    utilisation. ``held`` are pairs of node name and which process builds it. ``stopping``: the run was interrupted, and
    waits for the running nodes.
    """

    info: RunInfo
    status: RunStatus
    now: float
    elapsed: float
    counts: Counts
    tasks: tuple[NodeGroup, ...]
    stages: tuple[NodeGroup, ...]
    running: tuple[RunningNode, ...]
    failures: tuple[FailedNode, ...]
    held: tuple[tuple[str, str], ...]
    cpu_hours: float
    gpu_hours: float
    left: TimeLeft
    reused: int
    stopping: bool = False


def summarize(run_state: RunState, now: float) -> Summary:
    """The summary of a run at ``now``, in seconds by the run's clock."""
    if run_state.status != "running":
        now = run_state.ended
    node_runs = run_state.node_runs
    tasks = dict.fromkeys(node_run.task for node_run in node_runs)
    stages = sorted(dict.fromkeys(node_run.role for node_run in node_runs), key=_stage_rank)
    running = sorted(
        (node_run for node_run in node_runs if node_run.state == "running"), key=lambda node_run: node_run.began
    )
    return Summary(
        info=run_state.info,
        status=run_state.status,
        now=now,
        elapsed=max(0.0, now - run_state.info.started),
        counts=count_nodes(node_runs),
        tasks=tuple(
            NodeGroup(task, count_nodes([node_run for node_run in node_runs if node_run.task == task]))
            for task in tasks
        ),
        stages=tuple(
            NodeGroup(role, count_nodes([node_run for node_run in node_runs if node_run.role == role]))
            for role in stages
        ),
        running=tuple(_running(node_run, now) for node_run in running),
        failures=tuple(_failed_node(node_run, node_runs) for node_run in node_runs if node_run.state == "failed"),
        held=tuple((node_run.name, node_run.why) for node_run in node_runs if node_run.state == "held"),
        cpu_hours=sum(node_run.resource_seconds(now)[0] for node_run in node_runs) / 3600,
        gpu_hours=sum(node_run.resource_seconds(now)[1] for node_run in node_runs) / 3600,
        left=time_left(run_state, now),
        reused=run_state.reused,
        stopping=run_state.stopping,
    )


def count_nodes(node_runs: Sequence[NodeRun]) -> Counts:
    states = ("paused" if node_run.paused else str(node_run.state) for node_run in node_runs)
    return Counts(total=len(node_runs), **Counter(states))


def _stage_rank(role: str) -> int:
    return STAGES.index(role) if role in STAGES else len(STAGES)


def _running(node_run: NodeRun, now: float) -> RunningNode:
    return RunningNode(
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
        left=node_run.seconds_left(now),
        note=PAUSED if node_run.paused else node_run.note,
        paused=node_run.paused,
    )


def _failed_node(node_run: NodeRun, node_runs: Sequence[NodeRun]) -> FailedNode:
    blocked = {other.key for other in node_runs if other.state == "blocked"}
    return FailedNode(
        node_run.key, node_run.name, node_run.task, node_run.why, len(blocked & dependants(node_runs, node_run.key))
    )
