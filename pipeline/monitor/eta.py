"""How long a run still takes: a simulation starts its nodes in the runner's order, as many at once as fit. In it no
node gives up workers once it runs, which changes little of the end of the run."""

import heapq
import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.amount import SLACK
from pipeline.monitor.run_state import NodeRun, RunState


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """``seconds`` until the run ends, None where nothing is known. ``unknown`` counts the nodes whose duration is
    unknown: they are taken as 0 s, so if there are any, ``seconds`` is a lower bound."""

    seconds: float | None
    unknown: int


def time_left(run_state: RunState, now: float) -> TimeLeft:
    """Seconds until the last node ends.

    A running node ends at its present rate, or else after its expected time. A waiting node takes its expected time,
    and starts when its inputs are built and the resources it needs are free. Nodes that another run builds use none.
    """
    open_node_runs = [node_run for node_run in run_state.node_runs if node_run.state in ("waiting", "held", "running")]
    seconds = {node_run.key: seconds_left(node_run, run_state, now) for node_run in open_node_runs}
    unknown = sum(value is None for value in seconds.values())
    if open_node_runs and unknown == len(open_node_runs):
        return TimeLeft(None, unknown)
    known = {key: value or 0.0 for key, value in seconds.items()}
    return TimeLeft(simulated_end(open_node_runs, known, run_state), unknown)


def seconds_left(node_run: NodeRun, run_state: RunState, now: float) -> float | None:
    """Seconds until a node ends; None where unknown: no rate and no expected time, or it runs for longer than that."""
    expected = run_state.expected.get(node_run.key)
    if node_run.state == "waiting":
        return expected
    at_its_rate = node_run.seconds_left(now)
    if at_its_rate is not None:
        return at_its_rate
    if expected is None:
        return None
    left = node_run.began + expected - now
    return left if left > 0 else None


def simulated_end(node_runs: Sequence[NodeRun], seconds: Mapping[str, float], run_state: RunState) -> float:
    """Seconds from now until the last of ``node_runs`` ends, if each takes its ``seconds`` (by key)."""
    return max(simulated_ends(node_runs, seconds, run_state).values(), default=0.0)


def simulated_ends(node_runs: Sequence[NodeRun], seconds: Mapping[str, float], run_state: RunState) -> dict[str, float]:
    """Key -> seconds from now until each of ``node_runs`` ends, if each takes its ``seconds`` (by key)."""
    missing = {node_run.key: sum(need in seconds for need in node_run.needs) for node_run in node_runs}
    feeds: dict[str, list[NodeRun]] = {}
    for node_run in node_runs:
        for need in node_run.needs:
            feeds.setdefault(need, []).append(node_run)
    simulation = _Simulation(run_state)
    for node_run in node_runs:
        if node_run.paused:
            simulation.wait(node_run)
        elif node_run.state != "waiting":
            simulation.start(node_run, seconds[node_run.key], 0.0)
        elif not missing[node_run.key]:
            simulation.wait(node_run)
    ends: dict[str, float] = {}
    simulation.fill(seconds, 0.0)
    while simulation.ends:
        clock, ended = simulation.next()
        ends[ended.key] = clock
        for node_run in feeds.get(ended.key, ()):
            missing[node_run.key] -= 1
            if not missing[node_run.key] and node_run.state == "waiting":
                simulation.wait(node_run)
        simulation.fill(seconds, clock)
    return ends


class _Simulation:
    """The nodes that run at the simulated time, and queues of nodes that wait for resources.

    There is one queue for each combination of group, stage, CPUs and GPUs: if its first node does not fit, none of it
    does.
    """

    def __init__(self, run_state: RunState) -> None:
        self.capacity = run_state.capacity
        self.running: Counter[tuple[float, float, int]] = Counter()
        self.ends: list[tuple[float, int, NodeRun]] = []
        self.waiting: dict[tuple[int, int, float, float], deque[NodeRun]] = {}
        self._started = 0

    def wait(self, node_run: NodeRun) -> None:
        shape = (node_run.urgency.group, node_run.urgency.stage, node_run.cpus, node_run.gpus)
        self.waiting.setdefault(shape, deque()).append(node_run)

    def start(self, node_run: NodeRun, seconds: float, clock: float) -> None:
        heapq.heappush(self.ends, (clock + seconds, self._started, node_run))
        self._started += 1
        if node_run.state != "held":
            self.running[_share(node_run)] += 1

    def next(self) -> tuple[float, NodeRun]:
        clock, _, node_run = heapq.heappop(self.ends)
        if node_run.state != "held":
            self.running[_share(node_run)] -= 1
        return clock, node_run

    def fill(self, seconds: Mapping[str, float], clock: float) -> None:
        """Start every waiting node that fits, the most urgent group and the earliest stage first."""
        for shape in sorted(self.waiting):
            queue = self.waiting[shape]
            while queue and self._fits(queue[0]):
                node_run = queue.popleft()
                self.start(node_run, seconds[node_run.key], clock)

    def _fits(self, node_run: NodeRun) -> bool:
        if not self.running.total():
            return True
        if not self.capacity.concurrent:
            return False
        cpus = gpus = 0.0
        for (its_cpus, its_gpus, slots), count in (self.running + Counter([_share(node_run)])).items():
            taken = slots * math.ceil(count / slots)  # a worker that trainings share is taken whole
            cpus, gpus = cpus + taken * its_cpus, gpus + taken * its_gpus
        return cpus <= self.capacity.cpus + SLACK and gpus <= self.capacity.gpus + SLACK


def _share(node_run: NodeRun) -> tuple[float, float, int]:
    """Its CPUs and GPUs, and the number of trainings that share a worker of so many times these."""
    return node_run.cpus, node_run.gpus, node_run.trainings_per_worker
