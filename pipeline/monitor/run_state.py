"""The state of a run at one moment, node by node, and the recorder that changes it."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cluster.resources import Resources
from pipeline.artifacts.attempts import Owner
from pipeline.graph.nodes import Node

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

    ``needs`` are the keys of its input nodes that the same run builds. ``cpus`` and ``gpus`` are allotted to it while
    it runs. ``amount`` of ``total`` ``unit`` (rows, say) are done. ``why`` is one line: why it failed, or which process
    holds it. ``cpu_seconds`` and ``gpu_seconds`` are those of attempts that have ended, lost ones included.
    """

    key: str
    name: str
    role: str
    task: str
    needs: tuple[str, ...] = ()
    cpus: float = 0.0
    gpus: float = 0.0
    state: NodeState = "waiting"
    attempt: str = ""
    began: float = 0.0
    ended: float = 0.0
    total: float = 0.0
    unit: str = ""
    amount: float = 0.0
    note: str = ""
    why: str = ""
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0

    def seconds(self, now: float) -> float:
        """Seconds that it has run so far, or ran."""
        if self.state == "running":
            return max(0.0, now - self.began)
        return max(0.0, self.ended - self.began) if self.ended else 0.0

    def resource_seconds(self, now: float) -> tuple[float, float]:
        """CPU seconds and GPU seconds until now: CPUs and GPUs allotted, times seconds run, over all attempts."""
        more = self.seconds(now) if self.state == "running" else 0.0
        return self.cpu_seconds + self.cpus * more, self.gpu_seconds + self.gpus * more

    def rate(self, now: float) -> float:
        """``unit`` per second, on average so far."""
        return self.amount / max(self.seconds(now), 1e-9)

    def seconds_left(self, now: float) -> float | None:
        """Seconds left at the average rate so far; None where it has reported no progress, or no total."""
        if self.state != "running" or not 0 < self.amount < self.total:
            return None
        return (self.total - self.amount) / self.rate(now)


@dataclass(frozen=True, slots=True)
class RunState:
    """A run at one moment. ``expected`` maps a node's key to its estimated seconds, where comparable records exist.
    ``reused`` counts artifacts that existed before the run."""

    info: RunInfo
    node_runs: tuple[NodeRun, ...]
    capacity: RunCapacity = RunCapacity()
    reused: int = 0
    expected: Mapping[str, float] = field(default_factory=dict)
    status: RunStatus = "running"
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
        given = {"cpus": float(wanted.cpus), "gpus": float(wanted.gpus), "attempt": attempt}
        self._change(key, state="running", began=now, ended=0.0, total=0.0, unit="", amount=0.0, note="", **given)

    def report_progress(self, key: str, total: float | None, unit: str, amount: float, note: str) -> NodeRun | None:
        """Add ``amount`` to a running node's progress and set what else is given; None for a node that has ended."""
        with self._lock:
            node_run = self._node_runs[key]
            if node_run.state != "running":
                return None
            self._node_runs[key] = node_run = replace(
                node_run,
                total=node_run.total if total is None else total,
                unit=unit or node_run.unit,
                amount=node_run.amount + amount,
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

    def close(self, status: RunStatus, now: float) -> None:
        """The run is over. Nodes that still run go back to ``waiting``: the next run resumes them."""
        for node_run in self.run_state().node_runs:
            if node_run.state == "running":
                self.ended(node_run.key, "waiting", now)
        with self._lock:
            self._run_state = replace(self._run_state, status=status, ended=now)
            self.changes += 1

    def _change(self, key: str, **fields: Any) -> NodeRun:
        with self._lock:
            self._node_runs[key] = node_run = replace(self._node_runs[key], **fields)
            self.changes += 1
            return node_run


def node_runs_of(nodes: Sequence[Node], resources: Callable[[Node], Resources]) -> tuple[NodeRun, ...]:
    """The nodes before any has begun. Inputs that are not among ``nodes`` are not listed as needs: they exist."""
    built = {node.key for node in nodes}
    return tuple(
        NodeRun(
            key=node.key,
            name=node.name,
            role=node.role,
            task=node.task,
            needs=tuple(dict.fromkeys(other.key for other in node.waits_for if other.key in built)),
            cpus=float(wanted.cpus),
            gpus=float(wanted.gpus),
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
