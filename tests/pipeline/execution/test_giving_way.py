"""A run on Ray in which a long stage gives up its workers for more urgent ones, with stages that only sleep."""

import time
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import ClassVar

import pytest
from rich.console import Console

from cluster.resources import On, Resources, Worker
from cluster.session import Session
from cluster.share import WorkerShare
from pipeline.artifacts.attempts import Attempt, claim, release
from pipeline.artifacts.record import Record
from pipeline.execution.build_node import RunContext
from pipeline.execution.runner import run
from pipeline.graph.nodes import Edge, Graph, Node
from pipeline.monitor.run_view import RunView
from pipeline.plan.planner import plan
from pipeline.storage.directory import Directory
from stages.specs.base import Spec


class SleepSpec(Spec):
    """So many items that take so many seconds each."""

    stage: ClassVar[str] = "sleep"
    version: ClassVar[int] = 1

    name: str
    items: int
    seconds: float


def open_sleeper(seconds: float, worker: Worker) -> Callable[[int], int]:
    def do(item: int) -> int:
        time.sleep(seconds)
        worker.advance(1)
        return item

    return do


def sleep(spec: SleepSpec, _: Mapping[str, Path], out: Path, on: On) -> dict[str, int]:
    on.expect(spec.items, "items")
    done = [item for item, _ in on.map(open_sleeper, spec.seconds, range(spec.items))]
    (out / "items.txt").write_text(" ".join(map(str, sorted(done))), "utf-8")
    return {"rows": len(done)}


def node(role: str, items: int, seconds: float, *sources: Node) -> Node:
    inputs = {f"input{at}": Edge(source) for at, source in enumerate(sources)}
    return Node(role, role, "tiny", SleepSpec(name=role, items=items, seconds=seconds), inputs)


def test_embedding_gives_way_to_what_needs_no_bank_and_is_finished_afterwards(session: Session, tmp_path: Path) -> None:
    cpus = int(session.capacity().cpus)
    if cpus < 2:
        pytest.skip("needs two CPUs")
    corpus = node("corpus", 1, 0.5)
    embedding = node("embed", 40, 0.2)
    teacher = node("finetune", 1, 0.1, corpus)
    score = node("evaluate", 1, 0.1, teacher)
    graph = Graph((corpus, embedding, teacher, score))

    def resources(one: Node) -> Resources:
        return Resources(cpus_per_worker=1 if one.role in ("corpus", "embed") else cpus)

    storage, output = Directory(tmp_path / "runs"), StringIO()
    view = RunView(Console(file=output, width=200), tmp_path / "logs", graph.nodes)
    context = RunContext(storage, "tiny", session, resources, view, stages={SleepSpec: sleep})
    outcome = run(plan(graph, storage, "tiny"), context)
    assert not outcome.failures
    lines = [line.split()[:2] for line in output.getvalue().splitlines()]
    ends = [name for word, name in lines if word == "done"]
    assert ends == ["corpus", "finetune", "evaluate", "embed"]
    assert lines.index(["pause", "embed"]) < lines.index(["start", "finetune"])
    assert lines.index(["done", "evaluate"]) < lines.index(["resume", "embed"])
    record = outcome.records[embedding.key]
    assert record.rows == 40
    items = storage.local / record.folder / "items.txt"
    assert items.read_text("utf-8") == " ".join(map(str, range(40))), "every item once"


def test_what_another_run_is_building_makes_no_stage_give_way_until_its_lease_is_free(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpus = int(session.capacity().cpus)
    grants: list[int] = []
    grant = WorkerShare.grant

    def watched(self: WorkerShare, workers: int) -> None:
        grants.append(workers)
        grant(self, workers)

    monkeypatch.setattr(WorkerShare, "grant", watched)
    corpus, embedding = node("corpus", 1, 0.1), node("embed", 24, 0.2)
    teacher = node("finetune", 1, 0.1, corpus)
    score = node("evaluate", 1, 0.1, teacher)
    graph = Graph((corpus, embedding, teacher, score))

    def resources(one: Node) -> Resources:
        return Resources(cpus_per_worker=cpus)

    storage, output = Directory(tmp_path / "runs"), StringIO()
    attempt = claim(storage, SleepSpec.stage, teacher.key, {})
    assert isinstance(attempt, Attempt)
    view = RunView(Console(file=output, width=200), tmp_path / "logs", graph.nodes)

    def commit_of_another_run(one: Node, _: Record) -> None:
        """The other run gives up the teacher once the embedding is done."""
        if one is embedding:
            release(attempt)

    context = RunContext(
        storage, "tiny", session, resources, view, on_commit=commit_of_another_run, stages={SleepSpec: sleep}
    )
    outcome = run(plan(graph, storage, "tiny"), context)
    assert not outcome.failures
    lines = [line.split()[:2] for line in output.getvalue().splitlines()]
    assert [name for word, name in lines if word == "done"] == ["corpus", "embed", "finetune", "evaluate"]
    assert ["wait", "finetune"] in lines
    assert not grants, "the embedding kept its worker all the time"
