"""How long a run still takes: its nodes are laid side by side as the runner would start them, as far as they fit."""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.monitor.run_state import NodeRun, RunState
from pipeline.recipe import STAGES


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """``seconds`` is None where nothing is known. ``unknown`` counts nodes of which nothing tells how long they take:
    with any, ``seconds`` is the least it can be."""

    seconds: float | None
    unknown: int


def time_left(run_state: RunState, now: float) -> TimeLeft:
    """Seconds until the last node ends: a running one at its rate, or its expected time less what it has had; one that
    has not begun in its expected time, after what it needs and when it fits. What another run builds takes no room."""
    open_node_runs = [node_run for node_run in run_state.node_runs if node_run.state in ("waiting", "held", "running")]
    seconds = {node_run.key: remaining(node_run, run_state, now) for node_run in open_node_runs}
    unknown = sum(value is None for value in seconds.values())
    if open_node_runs and unknown == len(open_node_runs):
        return TimeLeft(None, unknown)
    return TimeLeft(laid_out(open_node_runs, {key: value or 0.0 for key, value in seconds.items()}, run_state), unknown)


def remaining(node_run: NodeRun, run_state: RunState, now: float) -> float | None:
    """Seconds that a node still runs; None where nothing tells, or it has had more than was expected."""
    expected = run_state.expected.get(node_run.key)
    if node_run.state == "waiting":
        return expected
    at_its_rate = node_run.left(now)
    if at_its_rate is not None:
        return at_its_rate
    if expected is None:
        return None
    over = now - node_run.began - expected
    return -over if over < 0 else None


def laid_out(node_runs: Sequence[NodeRun], seconds: dict[str, float], run_state: RunState) -> float:
    """When the last of ``node_runs`` ends, from now, if each takes its ``seconds``."""
    missing = {node_run.key: sum(need in seconds for need in node_run.needs) for node_run in node_runs}
    feeds: dict[str, list[NodeRun]] = {}
    for node_run in node_runs:
        for need in node_run.needs:
            feeds.setdefault(need, []).append(node_run)
    floor = _Floor(run_state)
    for node_run in node_runs:
        if node_run.state != "waiting":
            floor.start(node_run, seconds[node_run.key], 0.0)
        elif not missing[node_run.key]:
            floor.wait(node_run)
    clock = 0.0
    floor.fill(seconds, clock)
    while floor.ends:
        clock, ended = floor.next()
        for node_run in feeds.get(ended.key, ()):
            missing[node_run.key] -= 1
            if not missing[node_run.key] and node_run.state == "waiting":
                floor.wait(node_run)
        floor.fill(seconds, clock)
    return clock


class _Floor:
    """What runs, and what waits for room: by shape, as nodes of one shape fit or do not fit together."""

    def __init__(self, run_state: RunState) -> None:
        self.room = run_state.room
        self.cpus = self.gpus = 0.0
        self.running = 0
        self.ends: list[tuple[float, int, NodeRun]] = []
        self.waiting: dict[tuple[int, float, float], deque[NodeRun]] = {}
        self._started = 0

    def wait(self, node_run: NodeRun) -> None:
        role = STAGES.index(node_run.role) if node_run.role in STAGES else len(STAGES)
        self.waiting.setdefault((role, node_run.cpus, node_run.gpus), deque()).append(node_run)

    def start(self, node_run: NodeRun, seconds: float, clock: float) -> None:
        heapq.heappush(self.ends, (clock + seconds, self._started, node_run))
        self._started += 1
        if node_run.state != "held":
            self.running += 1
            self.cpus += node_run.cpus
            self.gpus += node_run.gpus

    def next(self) -> tuple[float, NodeRun]:
        clock, _, node_run = heapq.heappop(self.ends)
        if node_run.state != "held":
            self.running -= 1
            self.cpus -= node_run.cpus
            self.gpus -= node_run.gpus
        return clock, node_run

    def fill(self, seconds: dict[str, float], clock: float) -> None:
        """Start all that fits, stage by stage."""
        for shape in sorted(self.waiting):
            queue = self.waiting[shape]
            while queue and self._fits(queue[0]):
                node_run = queue.popleft()
                self.start(node_run, seconds[node_run.key], clock)

    def _fits(self, node_run: NodeRun) -> bool:
        if not self.running:
            return True
        return (
            self.room.concurrent
            and self.cpus + node_run.cpus <= self.room.cpus
            and self.gpus + node_run.gpus <= self.room.gpus
        )
