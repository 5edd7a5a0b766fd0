"""Runs in which trainings share a worker, with stages that only wait for each other."""

import os
import time
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import ClassVar

from rich.console import Console

from cluster.inline import Inline
from cluster.resources import On, Place, Resources, Worker
from cluster.session import Session
from pipeline.execution.build_node import RunContext
from pipeline.execution.runner import Outcome, run
from pipeline.graph.nodes import Graph, Node
from pipeline.monitor.run_view import RunView
from pipeline.plan.planner import plan
from pipeline.storage.directory import Directory
from stages.specs.base import Spec

PATIENCE = 60.0
"""Seconds that a training waits for the others."""


class MeetSpec(Spec):
    """A training that ends when so many trainings have begun, by their files in a folder."""

    stage: ClassVar[str] = "meet"
    version: ClassVar[int] = 1

    number: int
    folder: str
    trainings: int


def meeting(spec: MeetSpec, _: Worker) -> dict[str, int]:
    """The process, and how many trainings had begun when this one did and when it ended."""
    folder = Path(spec.folder)
    (folder / f"began-{spec.number}").touch()
    before, ends = len(list(folder.iterdir())), time.monotonic() + PATIENCE
    while (now := len(list(folder.iterdir()))) < spec.trainings and time.monotonic() < ends:
        time.sleep(0.05)
    return {"process": os.getpid(), "before": before, "after": now}


def meet(spec: MeetSpec, _: Mapping[str, Path], out: Path, on: On) -> dict[str, int]:
    (out / "number.txt").write_text(str(spec.number), "utf-8")
    return on.train(meeting, spec)


def built(place: Place, resources: Resources, folder: Path, trainings: int) -> tuple[Outcome, list[str]]:
    """Run four students that end when so many trainings have begun. Returns the outcome, and the words with which the
    lines of the run's progress begin."""
    met = folder / "met"
    met.mkdir()
    graph = Graph(
        tuple(
            Node(
                f"distil/{number}", "distil", "tiny", MeetSpec(number=number, folder=str(met), trainings=trainings), {}
            )
            for number in range(4)
        )
    )
    storage, output = Directory(folder / "runs"), StringIO()
    view = RunView(Console(file=output, width=200), folder / "logs", graph.nodes)
    context = RunContext(storage, "tiny", place, lambda _: resources, view, stages={MeetSpec: meet})
    outcome = run(plan(graph, storage, "tiny"), context)
    words = [line.split()[0] for line in output.getvalue().splitlines()]
    return outcome, [word for word in words if word in ("start", "done")]


def test_a_run_trains_as_many_students_at_once_as_a_worker_has_slots_and_the_next_when_one_has_ended(
    session: Session, tmp_path: Path
) -> None:
    whole = Resources(cpus_per_worker=int(session.capacity().cpus), trainings_per_worker=3)
    outcome, words = built(session, whole, tmp_path, trainings=3)
    facts = [record.facts for record in outcome.records.values()]
    assert len(facts) == 4
    assert len({one["process"] for one in facts}) == 1
    assert [one["after"] >= 3 for one in facts] == [True] * 4, "the first three ran at once"
    assert words[:4] == ["start", "start", "start", "done"]


def test_a_run_in_one_process_trains_one_student_after_another(tmp_path: Path) -> None:
    outcome, words = built(Inline(), Resources(trainings_per_worker=3), tmp_path, trainings=1)
    assert [record.facts["before"] for record in outcome.records.values()] == [1, 2, 3, 4]
    assert words == ["start", "done"] * 4
