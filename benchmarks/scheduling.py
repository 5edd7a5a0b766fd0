"""What the runner itself costs: graphs of stages that compute nothing, built from an empty storage.

A graph has the shape of a batch: tasks, each with a corpus, a teacher and its store, and students with their
evaluations. Each run is a process of its own. The first tenth of a run does not count towards the cost of a node, so
that starting is left out. Memory is that of the driver, RssAnon + RssShmem.
"""

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.findings import Finding, Goal
from benchmarks.memory import resident
from benchmarks.nothing import NothingSpec, nothing
from benchmarks.pairs import summary
from benchmarks.scene import Scene
from cluster.inline import Inline
from cluster.resources import Place, Resources
from cluster.session import Session
from pipeline.artifacts.record import Record
from pipeline.execution.build_node import RunContext
from pipeline.execution.runner import run
from pipeline.graph.nodes import Edge, Graph, Node
from pipeline.monitor.run_view import RunView
from pipeline.plan.planner import plan
from pipeline.storage.directory import Directory

SIZES = (100, 1000)
TASKS = 9
"""As many as GLUE has."""
GOAL = 20.0
"""Milliseconds a node."""


def measure(scene: Scene) -> list[Finding]:
    sizes = SIZES if scene.scale.turns >= 7 else SIZES[:1]
    found = []
    for kind in ("inline", "a local Ray"):
        for nodes in sizes:
            runs = [in_separate_process(Job(scene.root / f"{kind[:2]}-{nodes}-{n}", nodes, kind)) for n in range(3)]
            goal = Goal(most=GOAL) if nodes == SIZES[-1] else None
            each = summary([run.each for run in runs])
            note = f"cpu of the driver {statistics.median(run.cpu for run in runs):.1f} ms"
            found.append(Finding(f"{kind}, {nodes:,} nodes: a node", each, goal, "ms", note, once=True))
            grown = summary([run.grown for run in runs])
            note = f"of {statistics.median(run.memory for run in runs):.0f} MB, from the first tenth of the run on"
            named = f"{kind}, {nodes:,} nodes: growth of the driver's memory"
            found.append(Finding(named, grown, None, "MB", note))
    return found


@dataclass(frozen=True)
class Job:
    """What the separate process is to run."""

    root: Path
    nodes: int
    kind: str


@dataclass(frozen=True)
class RunCost:
    """``each`` and ``cpu`` are milliseconds a node, by the wall clock and of the driver's processor time. ``memory`` is
    the driver's memory in megabytes after a tenth of the run, ``grown`` its growth after that."""

    each: float
    cpu: float
    memory: float
    grown: float


def in_separate_process(job: Job) -> RunCost:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as one:
        return one.submit(build_graph, job).result()


def build_graph(job: Job) -> RunCost:
    """Build the graph in this process."""
    storage = Directory(job.root / "runs")
    graph = graph_of(job.nodes)
    place: Place = Inline() if job.kind == "inline" else Session.open(None, job.root / "ray.log")
    with open(os.devnull, "w") as nowhere:
        view = TimedView(Console(file=nowhere), job.root / "logs", graph.nodes)
        context = RunContext(storage, "scheduling", place, lambda _: Resources(), view, stages={NothingSpec: nothing})
        try:
            outcome = run(plan(graph, storage, "scheduling"), context)
        finally:
            place.close()
    assert len(outcome.records) == job.nodes, outcome.failures
    first, last = view.ends[len(view.ends) // 10], view.ends[-1]
    built = len(view.ends) - len(view.ends) // 10 - 1
    wall, cpu, memory = (late - early for late, early in zip(last, first, strict=True))
    return RunCost(1e3 * wall / built, 1e3 * cpu / built, first[2] / 1e6, memory / 1e6)


class TimedView(RunView):
    """A view that keeps (wall seconds, processor seconds, bytes of memory) at the end of each node."""

    def __init__(self, console: Console, logs: Path, nodes: Sequence[Node]) -> None:
        super().__init__(console, logs, nodes)
        self.ends: list[tuple[float, float, int]] = []

    def finished(self, node: Node, record: Record) -> None:
        super().finished(node, record)
        self.ends.append((time.perf_counter(), time.process_time(), resident()))


def graph_of(nodes: int) -> Graph:
    """A graph of so many nodes, those of the tasks included."""
    made: list[Node] = []

    def node(role: str, task: int, *inputs: Node) -> Node:
        edges = {f"input{number}": Edge(source) for number, source in enumerate(inputs)}
        made.append(Node(f"{role}/{len(made)}@task{task}", role, f"task{task}", NothingSpec(number=len(made)), edges))
        return made[-1]

    stores = []
    for task in range(TASKS):
        corpus = node("corpus", task)
        teacher = node("finetune", task, corpus)
        stores.append((corpus, node("teach", task, corpus, teacher)))
    while len(made) < nodes:
        task = len(made) // 2 % TASKS
        student = node("distil", task, *stores[task])
        if len(made) < nodes:
            node("evaluate", task, student, stores[task][0])
    return Graph(tuple(made))


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["scheduling", *sys.argv[1:]]))
