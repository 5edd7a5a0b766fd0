"""The course of a run: what is known of each of its nodes at one moment, and the one place where that changes."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cluster.resources import Resources
from pipeline.artifacts.attempts import Owner
from pipeline.graph.nodes import Node

State = Literal["waiting", "held", "running", "done", "failed", "blocked"]
"""``held``: another run builds it. ``blocked``: not run, because what it needs failed."""
End = Literal["running", "done", "failed", "stopped", "gone"]
"""How a run stands. ``failed``: some node did, and the rest is done. ``gone``: it gave no sign for long."""


@dataclass(frozen=True, slots=True)
class About:
    """Which run this is. ``started`` is in seconds since 1970; ``dashboard`` is a URL, or '' where there is none."""

    run: str
    recipe: str = ""
    started: float = 0.0
    owner: Owner | None = None
    storage: str = ""
    dashboard: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """What a place holds at once. One that is not ``concurrent`` holds one node at a time, whatever it asks for."""

    cpus: float = 0.0
    gpus: float = 0.0
    concurrent: bool = False


@dataclass(frozen=True, slots=True)
class NodeRun:
    """One node in a run. Times are in seconds by the run's clock.

    ``needs`` are keys of nodes that the same run builds. ``cpus`` and ``gpus`` are what it is given while it runs.
    ``amount`` of ``total`` ``unit`` is done. ``why`` says in one line why it failed, or who holds it. ``cpu_seconds``
    and ``gpu_seconds`` are of what has ended: an attempt that was lost counts too.
    """

    key: str
    name: str
    role: str
    task: str
    needs: tuple[str, ...] = ()
    cpus: float = 0.0
    gpus: float = 0.0
    state: State = "waiting"
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
        """How long it runs, or ran."""
        if self.state == "running":
            return max(0.0, now - self.began)
        return max(0.0, self.ended - self.began) if self.ended else 0.0

    def spent(self, now: float) -> tuple[float, float]:
        """CPU seconds and GPU seconds that it was given until now."""
        more = self.seconds(now) if self.state == "running" else 0.0
        return self.cpu_seconds + self.cpus * more, self.gpu_seconds + self.gpus * more

    def rate(self, now: float) -> float:
        """Units a second so far."""
        return self.amount / max(self.seconds(now), 1e-9)

    def left(self, now: float) -> float | None:
        """Seconds left at the rate so far; None where nothing tells."""
        if self.state != "running" or not 0 < self.amount < self.total:
            return None
        return (self.total - self.amount) / self.rate(now)


@dataclass(frozen=True, slots=True)
class RunState:
    """A run at one moment. ``expected`` are seconds by key, as far as like records tell. ``reused`` counts artifacts
    that were there before."""

    about: About
    node_runs: tuple[NodeRun, ...]
    room: Room = Room()
    reused: int = 0
    expected: Mapping[str, float] = field(default_factory=dict)
    end: End = "running"
    ended: float = 0.0


class Recorder:
    """Takes in what happens, from any thread; ``run_state`` gives it as a value."""

    def __init__(self, run_state: RunState) -> None:
        self._run_state = run_state
        self._node_runs = {node_run.key: node_run for node_run in run_state.node_runs}
        self._lock = threading.Lock()
        self.changes = 0

    def run_state(self) -> RunState:
        with self._lock:
            return replace(self._run_state, node_runs=tuple(self._node_runs.values()))

    def of(self, key: str) -> NodeRun:
        with self._lock:
            return self._node_runs[key]

    def started(self, key: str, wanted: Resources, attempt: str, now: float) -> None:
        given = {"cpus": float(wanted.cpus), "gpus": float(wanted.gpus), "attempt": attempt}
        self._change(key, state="running", began=now, ended=0.0, total=0.0, unit="", amount=0.0, note="", **given)

    def heard(self, key: str, total: float | None, unit: str, amount: float, note: str) -> NodeRun | None:
        """What a running node says of itself, taken in; None for one that has ended."""
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

    def ended(self, key: str, state: State, now: float, why: str = "") -> NodeRun:
        """The node ran, or will not. What it was given until now is counted."""
        node_run = self.of(key)
        cpu_seconds, gpu_seconds = node_run.spent(now)
        began = node_run.began if node_run.state == "running" else now
        spent = {"cpu_seconds": cpu_seconds, "gpu_seconds": gpu_seconds}
        return self._change(key, state=state, began=began, ended=now, why=why, **spent)

    def held(self, key: str, why: str, now: float) -> bool:
        """Another run builds it. Whether that is news."""
        if self.of(key).state == "held":
            return False
        self._change(key, state="held", began=now, why=why)
        return True

    def close(self, end: End, now: float) -> None:
        """The run is over. What still runs is not done: the next run goes on with it."""
        for node_run in self.run_state().node_runs:
            if node_run.state == "running":
                self.ended(node_run.key, "waiting", now)
        with self._lock:
            self._run_state = replace(self._run_state, end=end, ended=now)
            self.changes += 1

    def _change(self, key: str, **fields: Any) -> NodeRun:
        with self._lock:
            self._node_runs[key] = node_run = replace(self._node_runs[key], **fields)
            self.changes += 1
            return node_run


def node_runs_of(nodes: Sequence[Node], resources: Callable[[Node], Resources]) -> tuple[NodeRun, ...]:
    """The nodes before any of them has begun. Needs outside ``nodes`` are there already."""
    built = {node.key for node in nodes}
    return tuple(
        NodeRun(
            key=node.key,
            name=node.name,
            role=node.role,
            task=node.task,
            needs=tuple(dict.fromkeys(source.key for source in node.sources if source.key in built)),
            cpus=float(wanted.cpus),
            gpus=float(wanted.gpus),
        )
        for node in nodes
        for wanted in (resources(node),)
    )


def dependants(node_runs: Iterable[NodeRun], key: str) -> set[str]:
    """The keys of all that cannot be built without ``key``. Stints come after what they need."""
    found = {key}
    for node_run in node_runs:
        if not found.isdisjoint(node_run.needs):
            found.add(node_run.key)
    return found - {key}
