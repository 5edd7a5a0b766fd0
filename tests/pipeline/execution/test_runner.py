import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from project import Project, graph_in, nodes_by_name, record_for, result_of, start, write_project
from rich.console import Console
from waiting import log_contains, wait_for

from cluster.inline import Inline
from cluster.resources import Capacity, Listener, Mirror, On, Resources
from cluster.session import Session
from cluster.share import WorkerShare
from pipeline.artifacts.attempts import Attempt, claim
from pipeline.artifacts.record import commit, find, sweep
from pipeline.errors import RequestError
from pipeline.execution.build_node import RunContext
from pipeline.execution.runner import Outcome, run
from pipeline.graph.nodes import Graph
from pipeline.monitor.run_view import RunView
from pipeline.monitor.status import read_runs
from pipeline.plan.planner import plan
from pipeline.plan.resources import allot
from pipeline.recipe import Recipe, load
from pipeline.storage.directory import Directory

TASKS = [{"name": name, "text": "sentence", "labels": ["bad", "good"]} for name in ("broken", "tiny")]


@pytest.fixture
def two(assets: Path, tmp_path: Path) -> Project:
    """The task ``tiny``, after a task ``broken``, in whose data a label is damaged since they were read for a plan."""
    both = tmp_path / "assets"
    shutil.copytree(assets, both)
    (both / "data" / "broken").mkdir()
    lines = "".join(f"a {row},{row % 2}\n" for row in range(60))
    broken_file(both).write_text(f"sentence,label\n{lines}")
    shutil.copy(both / "data" / "tiny" / "validation.parquet", both / "data" / "broken")
    project = write_project(tmp_path / "project", both, task=TASKS)
    project.storage.mkdir()
    project.plan()
    exchange(broken_file(both), "a 5,1", "a 5,7")
    return project


def broken_file(assets: Path) -> Path:
    return assets / "data" / "broken" / "train.csv"


def exchange(path: Path, old: str, new: str) -> None:
    """Change a file's content, but not its size and time, by which it is known to have been read already."""
    stat, text = path.stat(), path.read_text()
    assert len(old) == len(new) and text.count(old) == 1
    with path.open("r+") as file:
        file.write(text.replace(old, new))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def mend(project: Project) -> None:
    path = broken_file(project.folder.parent / "assets")
    path.write_text(path.read_text().replace("a 5,7", "a 5,1") + "one more,1\n")


def identities(project: Project) -> dict[str, tuple[str, float]]:
    """Node -> its attempt, and when that was committed."""
    return {
        str(record["name"]): (str(record["attempt"]), path.stat().st_mtime)
        for path in project.storage.glob("[a-z]*/*/record.json")
        for record in [json.loads(path.read_text("utf-8"))]
    }


# --- failures -------------------------------------------------------------------------------------


def test_a_failure_blocks_only_what_depends_on_it_and_the_next_run_resumes(two: Project) -> None:
    result = two("run", "--inline")
    assert result.code == 1
    (line,) = result.err.splitlines()
    assert line.startswith("stillhouse: corpus@broken: ")
    assert "train.csv: row 6 (line 7), column label: '7'" in line
    (line,) = [line for line in result.out.splitlines() if line.startswith("FAIL")]
    assert line.endswith("; 7 stages that need it are not run"), "teacher, store, two students, three evaluations"
    (status,) = read_runs(two.storage)
    blocked = [node["name"] for node in status.document["nodes"] if node["state"] == "blocked"]
    assert len(blocked) == 7
    assert all(name.endswith("@broken") for name in blocked)
    status = {(row["task"], row["method"]): row["status"] for row in two.rows()}
    assert status == {
        (task, method): "failed" if task == "broken" else "done"
        for task in ("broken", "tiny")
        for method in ("teacher", "no-kd", "vanilla-kd")
    }
    assert [line.split()[-1] for line in result.out.splitlines() if line.startswith(" broken")] == ["failed"] * 3
    assert two.unfinished() == [two.plan()["corpus@broken"]["key"]], "what the failed stage has finished is kept"

    before = identities(two)
    mend(two)
    assert {row["status"] for row in two.rows() if row["task"] == "broken"} == {"missing"}
    again = two("run", "--inline")
    assert (again.code, again.err) == (0, "")
    assert {row["status"] for row in two.rows()} == {"done"}
    after = identities(two)
    assert {name: after[name] for name in before} == before
    assert len(after) == 16


def test_the_log_of_a_failed_stage_holds_the_traceback(two: Project) -> None:
    result = two("run", "--inline", "--stage", "corpus@broken")
    log = Path(result.err.rstrip().rpartition("(log: ")[2].removesuffix(")"))
    assert log.is_relative_to(two.storage)
    assert "Traceback (most recent call last)" in log.read_text("utf-8")


def test_the_note_of_a_failure_is_removed_when_the_node_is_built(two: Project) -> None:
    two("run", "--inline", "--stage", "corpus@broken")
    assert [path.name for path in (two.storage / ".failed").iterdir()] == [two.plan()["corpus@broken"]["key"]]
    assert {row["status"] for row in two.rows() if row["task"] == "broken"} == {"failed"}
    exchange(broken_file(two.folder.parent / "assets"), "a 5,7", "a 5,1")
    assert two("run", "--inline", "--stage", "corpus@broken").code == 0
    assert list((two.storage / ".failed").iterdir()) == []


def test_an_artifact_that_lacks_a_file_is_rebuilt_and_nothing_else(built: Project) -> None:
    before = identities(built)
    name = "distil/no-kd/two/0@tiny"
    (built.artifact(name) / "model" / "model.safetensors").unlink()
    result = built("run", "--inline")
    assert result.code == 0, result.err
    assert (built.artifact(name) / "model" / "model.safetensors").exists()
    after = identities(built)
    assert {found for found in after if after[found] != before[found]} == {name}
    assert "nothing to do" in built("run", "--inline").out


def test_attempts_that_a_killed_run_left_beside_its_record_are_removed_by_the_next_run(built: Project) -> None:
    key = str(built.records()["corpus@tiny"]["key"])
    leave = (
        "import sys, time; from pathlib import Path; from pipeline.artifacts.attempts import claim\n"
        "from pipeline.storage.directory import Directory\n"
        "claim(Directory(Path(sys.argv[1])), 'corpus', sys.argv[2], {}, time.time)"
    )
    subprocess.run([sys.executable, "-c", leave, str(built.storage), key], check=True)
    assert built.unfinished() == [key], "its process is gone, and let go of nothing"
    result = built("run", "--inline", "--stage", "evaluate/teacher@tiny")
    assert result.code == 0, result.err
    assert built.unfinished() == []


# --- --stage --------------------------------------------------------------------------------------


def test_the_stage_given_by_name_is_rebuilt_with_what_depends_on_it(built: Project) -> None:
    before = identities(built)
    result = built("run", "--inline", "--stage", "teach@tiny")
    assert result.code == 0, result.err
    after = identities(built)
    students = {f"{stage}/vanilla-kd/two/{seed}@tiny" for stage in ("distil", "evaluate") for seed in (0, 1)}
    assert {name for name in after if after[name] != before[name]} == {"teach@tiny", *students}
    assert built.unfinished() == []


def test_nothing_is_withdrawn_if_an_input_cannot_be_built(built: Project, assets: Path, tmp_path: Path) -> None:
    data = tmp_path / "data" / "tiny"
    shutil.copytree(assets / "data" / "tiny", data)
    options = ("--set", f"data.source={data.parent}")
    built.plan(*options)  # its digests are known from here on
    shutil.rmtree(built.artifact("corpus@tiny").parent)
    train = data / "train.parquet"
    stat = train.stat()
    with train.open("r+b") as stream:
        stream.seek(100)
        stream.write(b"\0" * 600)
    os.utime(train, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    before = identities(built)
    result = built("run", "--inline", "--stage", "teach@tiny", *options)
    assert result.code == 1
    assert result.err.startswith("stillhouse: corpus@tiny: ")
    assert identities(built) == before


# --- limits ---------------------------------------------------------------------------------------


def test_a_store_over_its_limit_is_refused_before_any_work(assets: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path, assets, limits={"store_bytes": "10kB"})
    result = project("run", "--inline")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(
        "stillhouse: limits.store_bytes: 10,000, but the teacher outputs come to 29,584 bytes "
    )
    assert not project.storage.exists()


def test_a_store_of_rows_from_csv_over_its_limit_is_refused_before_any_work(assets: Path, tmp_path: Path) -> None:
    data = tmp_path / "data" / "tiny"
    data.mkdir(parents=True)
    for split in ("train", "validation"):
        pc.write_csv(pq.read_table(assets / "data" / "tiny" / f"{split}.parquet"), data / f"{split}.csv")
    source = {"source": str(data.parent), "holdout_min_rows": 0}
    project = write_project(tmp_path, assets, data=source, limits={"store_bytes": "10kB"})
    result = project("run", "--inline", "--stage", "teach")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("stillhouse: limits.store_bytes: 10,000, but the teacher outputs come to 29,584 ")


# --- a place that grows ---------------------------------------------------------------------------


class Growing(Inline):
    """A place that a second machine joins while the first stage runs."""

    def __init__(self) -> None:
        self.request = False

    def capacity(self) -> Capacity:
        return Capacity.fixed(*super().capacity().nodes * (2 if self.request else 1))

    def on(
        self, resources: Resources, listener: Listener, mirror: Mirror | None = None, share: WorkerShare | None = None
    ) -> On:
        self.request = True
        return super().on(resources, listener, mirror, share)


def test_machines_that_join_are_checked_before_the_next_stage_starts(assets: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path, assets, method="no-kd")

    def refuse() -> None:
        raise RequestError("storage: not seen by the one that came")

    with pytest.raises(RequestError, match="the one that came"):
        carried_out(project, Growing(), check_new_machines=refuse)
    assert set(project.records()) == {"corpus@tiny"}


# --- two runs, one key ----------------------------------------------------------------------------


class Interloper(Inline):
    """A place in which another run takes the corpus over while this one builds it, and commits first."""

    def __init__(self, project: Project, graph: Graph) -> None:
        self.project, self.node = project, nodes_by_name(graph)["corpus@tiny"]

    def on(
        self, resources: Resources, listener: Listener, mirror: Mirror | None = None, share: WorkerShare | None = None
    ) -> On:
        stage, key, storage = self.node.spec.stage, self.node.key, Directory(self.project.storage)
        if find(storage, stage, key) is None:
            self._take_over(stage, key, storage)
        return super().on(resources, listener, mirror, share)

    def _take_over(self, stage: str, key: str, storage: Directory) -> None:
        work = storage.local / ".work" / key / "0001"
        lease = json.loads((work / ".lease.json").read_text("utf-8"))
        (work / ".lease.json").write_text(json.dumps({**lease, "released": True}), "utf-8")
        theirs = claim(storage, stage, key, {})
        assert isinstance(theirs, Attempt)
        (theirs.out / "result.txt").write_text("theirs", "utf-8")
        sweep(storage, commit(storage, theirs.out, record_for(self.node, theirs.out)))
        (work / "written-late").mkdir(parents=True)


def carried_out(
    project: Project, place: object, only: str | None = None, check_new_machines: Callable[[], None] = lambda: None
) -> tuple[Recipe, Graph, Outcome, str]:
    recipe, graph = load_graph(project)
    found = plan(graph, Directory(project.storage), recipe.name, only)
    project.storage.mkdir(exist_ok=True)
    output = StringIO()
    view = RunView(Console(file=output, width=200), project.storage / ".logs", [step.node for step in found.builds])

    def resources(node: object) -> Resources:
        return allot(node, recipe.resources, place.capacity())  # type: ignore[arg-type,attr-defined]

    context = RunContext(
        Directory(project.storage),
        recipe.name,
        place,  # type: ignore[arg-type]
        resources,
        view,
        check_new_machines=check_new_machines,
    )
    outcome = run(found, context)
    return recipe, graph, outcome, output.getvalue()


def load_graph(project: Project) -> tuple[Recipe, Graph]:
    recipe = load(project.recipe, (), str(project.storage))
    return recipe, graph_in(project.storage, recipe)


def test_an_attempt_that_was_taken_over_is_not_committed_and_the_other_runs_artifact_is_used(
    assets: Path, tmp_path: Path
) -> None:
    project = write_project(tmp_path, assets, method="no-kd")
    _, graph = load_graph(project)
    only = Graph((nodes_by_name(graph)["corpus@tiny"],))
    found = plan(only, Directory(project.storage), "tiny")
    output = StringIO()
    view = RunView(Console(file=output, width=200), project.storage / ".logs", only.nodes)
    context = RunContext(Directory(project.storage), "tiny", Interloper(project, graph), lambda _: Resources(), view)
    project.storage.mkdir()
    outcome = run(found, context)
    assert not outcome.failures
    (record,) = outcome.records.values()
    assert record.attempt == "0002"
    assert [line.split()[0] for line in output.getvalue().splitlines()] == ["start", "lost", "taken"]
    assert (project.artifact("corpus@tiny") / "result.txt").read_text("utf-8") == "theirs"
    assert project.unfinished() == []


# --- Ctrl-C ---------------------------------------------------------------------------------------


def test_ctrl_c_releases_all_leases_and_the_next_run_resumes(assets: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path, assets, teacher={"model": str(assets / "model"), "finetune": {"epochs": 60}})
    process = start("run", str(project.recipe), "--storage", str(project.storage), "--inline")
    wait_for(log_contains(project, "finetune@tiny", "epoch 2/60"), process)
    process.send_signal(signal.SIGINT)
    result = result_of(process)
    assert (result.code, result.err) == (130, "stillhouse: stopped; the next run resumes from here\n")
    key = str(project.plan()["finetune@tiny"]["key"])
    lease = json.loads((project.storage / ".work" / key / "0001" / ".lease.json").read_text("utf-8"))
    assert lease["released"] is True
    before = identities(project)
    assert set(before) == {"corpus@tiny"}
    again = project("run", "--inline", "--stage", "finetune", "--set", "method=no-kd")
    assert again.code == 0, again.err
    assert identities(project)["corpus@tiny"] == before["corpus@tiny"]
    assert project.unfinished() == []


# --- Ray ------------------------------------------------------------------------------------------


def test_a_run_on_ray_isolates_a_failure_and_gives_the_bits_of_an_inline_run(
    two: Project, session: Session, first_run: tuple[Project, object]
) -> None:
    _, _, outcome, _ = carried_out(two, session)
    assert {failure.node.task for failure in outcome.failures.values()} == {"broken"}
    assert {record.name.split("@")[1] for record in outcome.records.values()} == {"tiny"}
    inline = first_run[0]
    for name in ("finetune@tiny", "distil/no-kd/two/0@tiny", "distil/vanilla-kd/two/0@tiny"):
        weights = [project.artifact(name) / "model" / "model.safetensors" for project in (two, inline)]
        assert weights[0].read_bytes() == weights[1].read_bytes(), name
