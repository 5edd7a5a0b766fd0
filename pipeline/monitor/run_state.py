"""The state of a run at one moment, node by node, and the recorder that changes it."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cluster.resources import Resources
from pipeline.artifacts.attempts import Owner
from pipeline.graph.nodes import Node
from pipeline.plan.urgency import Urgency, urgencies

FIRST = Urgency(0, 0, 0, 0)
NodeState = Literal["waiting", "held", "running", "done", "failed", "blocked"]
"""``held``: another run builds it. ``blocked``: not run, because a node that it needs failed."""
RunStatus = Literal["running", "done", "failed", "stopped", "gone"]
"""``failed``: at least one node failed, the others are done or blocked. ``stopped``: interrupted. ``gone``: its process
died, or has written no status for long."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Which run this is. ``started`` is in seconds since 1970; ``dashboard`` is a URL, or '' where there is none."""

    run: str
    recipe: str = ""
    started: float = 0.0
    owner: Owner | None = None
    storage: str = ""
    dashboard: str = ""


@dataclass(frozen=True, slots=True)
class RunCapacity:
    """The CPUs and GPUs that nodes may use at once; without ``concurrent``, one node runs at a time."""

    cpus: float = 0.0
    gpus: float = 0.0
    concurrent: bool = False


@dataclass(frozen=True, slots=True)
class NodeRun:
    """One node in a run. Times are in seconds by the run's clock.

    ``needs`` are the keys of its input nodes that the same run builds; ``urgency`` is its rank among nodes that wait.
    ``cpus`` and ``gpus`` are allotted to it while it runs: of a worker that it shares with others of
    ``trainings_per_worker`` trainings, its part; ``part`` (0 to 1) is how much of that it has since
    ``since``, 0 while it is paused for more urgent nodes. ``amount`` of ``total`` ``unit`` (rows, say) are done,
    ``restored`` of them by earlier attempts; ``first_report`` is (active seconds, amount) when this attempt first
    reported work of its own. ``why`` is one line: why it failed, or which process holds it.
    ``cpu_seconds`` and ``gpu_seconds`` are those of attempts that have ended, lost ones included, and of this one until
    ``since``; ``active_seconds`` are those in which this attempt was not paused, also until ``since``.
    """

    key: str
    name: str
    role: str
    task: str
    needs: tuple[str, ...] = ()
    cpus: float = 0.0
    gpus: float = 0.0
    trainings_per_worker: int = 1
    state: NodeState = "waiting"
    attempt: str = ""
    began: float = 0.0
    since: float = 0.0
    part: float = 1.0
    active_seconds: float = 0.0
    ended: float = 0.0
    total: float = 0.0
    unit: str = ""
    amount: float = 0.0
    restored: float = 0.0
    first_report: tuple[float, float] | None = None
    note: str = ""
    why: str = ""
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    urgency: Urgency = FIRST

    def seconds(self, now: float) -> float:
        """Seconds that it has run so far, or ran."""
        if self.state == "running":
            return max(0.0, now - self.began)
        return max(0.0, self.ended - self.began) if self.ended else 0.0

    @property
    def paused(self) -> bool:
        """Whether it has given up all of its workers for more urgent nodes."""
        return self.state == "running" and not self.part

    def resource_seconds(self, now: float) -> tuple[float, float]:
        """CPU seconds and GPU seconds until now: CPUs and GPUs allotted, times seconds run, over all attempts."""
        more = self.part * max(0.0, now - self.since) if self.state == "running" else 0.0
        return self.cpu_seconds + self.cpus * more, self.gpu_seconds + self.gpus * more

    def active(self, now: float) -> float:
        """Seconds in which this attempt ran, without those in which it was paused."""
        return self.active_seconds + (max(0.0, now - self.since) if self.state == "running" and self.part else 0.0)

    def rate(self, now: float) -> float:
        """``unit`` per second, on average, of this attempt. From its second report of work on, the time until the first
        does not count: processes start and load a model in it."""
        seconds, done = self.active(now), self.amount - self.restored
        first_seconds, first_done = self.first_report or (0.0, 0.0)
        if done > first_done and seconds > first_seconds:
            seconds, done = seconds - first_seconds, done - first_done
        return done / max(seconds, 1e-9)

    def seconds_left(self, now: float) -> float | None:
        """Seconds left at the average rate so far; None where this attempt has reported no progress, or no total."""
        if self.state != "running" or not self.restored < self.amount < self.total:
            return None
        return (self.total - self.amount) / self.rate(now)


@dataclass(frozen=True, slots=True)
class RunState:
    """A run at one moment. ``expected`` maps a node's key to its estimated seconds, where comparable records exist.
    ``reused`` counts artifacts that existed before the run. ``stopping``: it was interrupted, and waits for the nodes
    that still run."""

    info: RunInfo
    node_runs: tuple[NodeRun, ...]
    capacity: RunCapacity = RunCapacity()
    reused: int = 0
    expected: Mapping[str, float] = field(default_factory=dict)
    status: RunStatus = "running"
    stopping: bool = False
    ended: float = 0.0


class Recorder:
    """Keeps the state of a run. Its methods may be called from any thread; ``run_state`` returns an immutable copy."""

    def __init__(self, run_state: RunState) -> None:
        self._run_state = run_state
        self._node_runs = {node_run.key: node_run for node_run in run_state.node_runs}
        self._lock = threading.Lock()
        self.changes = 0

    def run_state(self) -> RunState:
        with self._lock:
            return replace(self._run_state, node_runs=tuple(self._node_runs.values()))

    def node_run(self, key: str) -> NodeRun:
        with self._lock:
            return self._node_runs[key]

    def started(self, key: str, wanted: Resources, attempt: str, now: float) -> None:
        given = {"cpus": float(wanted.cpus), "gpus": float(wanted.gpus), "attempt": attempt, "began": now, "since": now}
        given["trainings_per_worker"] = wanted.trainings_per_worker
        fresh = {"part": 1.0, "active_seconds": 0.0, "total": 0.0, "amount": 0.0, "restored": 0.0}
        self._change(key, state="running", ended=0.0, unit="", note="", first_report=None, **given, **fresh)

    def workers_changed(self, key: str, part: float, now: float) -> None:
        """From now on, a running node has this part (0 to 1) of what is allotted to it."""
        with self._lock:
            before = self._node_runs[key]
            cpu_seconds, gpu_seconds = before.resource_seconds(now)
        used = {"cpu_seconds": cpu_seconds, "gpu_seconds": gpu_seconds, "active_seconds": before.active(now)}
        self._change(key, part=part, since=now, **used)

    def report_progress(
        self,
        key: str,
        total: float | None,
        unit: str,
        amount: float,
        note: str,
        restored: float = 0.0,
        now: float | None = None,
    ) -> NodeRun | None:
        """Add ``amount`` and ``restored`` to a running node's progress and set what else is given. None, and nothing is
        changed, for a node that has ended, and while the run is stopping: work that is given up is no progress."""
        with self._lock:
            node_run = self._node_runs[key]
            if node_run.state != "running" or self._run_state.stopping:
                return None
            first = node_run.first_report
            if first is None and amount > 0 and now is not None:
                first = (node_run.active(now), amount)
            self._node_runs[key] = node_run = replace(
                node_run,
                first_report=first,
                total=node_run.total if total is None else total,
                unit=unit or node_run.unit,
                amount=node_run.amount + amount + restored,
                restored=node_run.restored + restored,
                note=note or node_run.note,
            )
            return node_run

    def ended(self, key: str, state: NodeState, now: float, why: str = "") -> NodeRun:
        """The node has ended, or will not run: set its ``state`` and add up the CPU and GPU seconds it used."""
        node_run = self.node_run(key)
        cpu_seconds, gpu_seconds = node_run.resource_seconds(now)
        began = node_run.began if node_run.state == "running" else now
        resource_seconds = {"cpu_seconds": cpu_seconds, "gpu_seconds": gpu_seconds}
        return self._change(key, state=state, began=began, ended=now, why=why, **resource_seconds)

    def held(self, key: str, why: str, now: float) -> bool:
        """Another run builds the node. Returns False if that was known already."""
        if self.node_run(key).state == "held":
            return False
        self._change(key, state="held", began=now, why=why)
        return True

    def stopping(self) -> None:
        """The run was interrupted, and waits for the nodes that still run."""
        with self._lock:
            self._run_state = replace(self._run_state, stopping=True)
            self.changes += 1

    def close(self, status: RunStatus, now: float) -> None:
        """The run is over. Nodes that still run go back to ``waiting``: the next run resumes them."""
        for node_run in self.run_state().node_runs:
            if node_run.state == "running":
                self.ended(node_run.key, "waiting", now)
        with self._lock:
            self._run_state = replace(self._run_state, status=status, stopping=False, ended=now)
            self.changes += 1

    def _change(self, key: str, **fields: Any) -> NodeRun:
        with self._lock:
            self._node_runs[key] = node_run = replace(self._node_runs[key], **fields)
            self.changes += 1
            return node_run


def node_runs_of(nodes: Sequence[Node], resources: Callable[[Node], Resources]) -> tuple[NodeRun, ...]:
    """The nodes before any has begun. Inputs that are not among ``nodes`` are not listed as needs: they exist."""
    built, ranks = {node.key for node in nodes}, urgencies(nodes)
    return tuple(
        NodeRun(
            key=node.key,
            name=node.name,
            role=node.role,
            task=node.task,
            needs=tuple(dict.fromkeys(other.key for other in node.waits_for if other.key in built)),
            urgency=ranks[node.key],
            cpus=float(wanted.cpus),
            gpus=float(wanted.gpus),
            trainings_per_worker=wanted.trainings_per_worker,
        )
        for node in nodes
        for wanted in (resources(node),)
    )


def dependants(node_runs: Iterable[NodeRun], key: str) -> set[str]:
    """The keys of all nodes that need ``key``, directly or not. ``node_runs`` are sorted: inputs come first."""
    found = {key}
    for node_run in node_runs:
        if not found.isdisjoint(node_run.needs):
            found.add(node_run.key)
    return found - {key}
