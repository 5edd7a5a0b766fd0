"""Status, page and logs of a real run: three tasks, of which one fails."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from disk import mounted
from project import CommandResult, Project, Tree, write_project

from pipeline.monitor.status import PublishedRun, read_runs

TASKS = ("one", "broken", "two")
ONE_TASK = ("--set", "task={name: one, text: sentence, labels: [bad, good]}", "--set", "overrides={}")


@dataclass(frozen=True)
class FinishedBatch:
    """A batch that was run once, the command's result, and the status that it wrote. Not to be changed."""

    project: Project
    result: CommandResult
    status: PublishedRun

    @property
    def logs(self) -> Path:
        return self.project.storage / ".logs" / self.status.run

    def entries(self, name: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.logs / f"{name}.jsonl").read_text("utf-8").splitlines()]


def write_batch(assets: Path, folder: Path) -> Project:
    """The tiny task three times; with the learning rate of ``broken``, training diverges."""
    for name in TASKS:
        shutil.copytree(assets / "data" / "tiny", folder / "data" / name)
    tasks = [{"name": name, "text": "sentence", "labels": ["bad", "good"]} for name in TASKS]
    wild = {"broken": {"train": {"learning_rate": 1e8}}}
    return write_project(folder / "project", assets, data={"source": str(folder / "data")}, task=tasks, overrides=wild)


@pytest.fixture(scope="module")
def batch(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedBatch:
    project = write_batch(assets, tmp_path_factory.mktemp("finished_batch"))
    result = project("run", "--inline")
    (status,) = read_runs(project.storage)
    return FinishedBatch(project, result, status)


def states(status: PublishedRun) -> dict[str, str]:
    nodes: list[dict[str, str]] = status.document["nodes"]
    return {node["name"]: node["state"] for node in nodes}


def test_a_failure_affects_its_task_only_and_shows_in_status_exit_code_and_table(batch: FinishedBatch) -> None:
    assert batch.result.code == 1
    assert batch.status.status == "failed"
    found = states(batch.status)
    assert {name.rpartition("@")[2] for name, state in found.items() if state != "done"} == {"broken"}
    assert sorted(found[name] for name in found if name.startswith("distil/")) == ["done"] * 4 + ["failed"] * 2
    assert found["teach@broken"] == found["evaluate/teacher@broken"] == "done"
    assert found["evaluate/no-kd/two/0@broken"] == "blocked"
    rows = [line for line in batch.result.out.splitlines() if line.startswith(" broken")]
    assert [line.split()[-1] for line in rows] == ["done", "failed", "failed"]


def test_a_failure_is_one_line_with_its_reason_and_the_log_that_has_the_traceback(
    batch: FinishedBatch,
) -> None:
    fault = next(one for one in batch.status.document["failures"] if one["name"] == "distil/no-kd/two/0@broken")
    assert re.fullmatch(
        "training diverges in epoch 1 .*; choose a lower learning_rate than 1.*, or smaller weights .*",
        fault["why"],
    )
    assert fault["blocks"] == 1
    line = next(
        line for line in batch.result.err.splitlines() if line.startswith("stillhouse: distil/no-kd/two/0@broken")
    )
    log = Path(line.rpartition("(log: ")[2].removesuffix(")"))
    assert log == batch.logs / "distil.no-kd.two.0@broken.log"
    assert "Traceback (most recent call last)" in log.read_text("utf-8")


def test_the_page_has_the_results_and_a_log_for_each_node_that_began(batch: FinishedBatch) -> None:
    page = (batch.status.folder / "index.html").read_text("utf-8")
    assert ">failed</span>" in page
    assert "<h2>Results</h2>" in page and "mean of 3 tasks" in page
    links = re.findall('href="([^"]+)"', page)
    assert {Path(link).name for link in links} >= {
        "corpus@one.jsonl",
        "finetune@one.log",
        "distil.no-kd.two.0@broken.log",
    }
    for link in links:
        assert (batch.status.folder / link).resolve().is_file(), link


def test_every_node_has_log_entries_from_its_start_to_its_end(batch: FinishedBatch) -> None:
    for name, state in states(batch.status).items():
        events = [entry["event"] for entry in batch.entries(name.replace("/", "."))]
        if state == "blocked":
            assert events == ["blocked"]
        else:
            assert (events[0], events[-1]) == ("start", state)
    notes = [entry["text"] for entry in batch.entries("finetune@one") if entry["event"] == "note"]
    assert any("epoch 6/6" in str(note) for note in notes)
    keys = {entry["key"] for entry in batch.entries("finetune@one")}
    assert keys == {batch.project.records()["finetune@one"]["key"]}


def test_the_events_of_the_run_begin_and_end_with_it(batch: FinishedBatch) -> None:
    events = batch.entries("events")
    assert (events[0]["event"], events[-1]["event"], events[-1]["text"]) == ("begin", "end", "failed")
    count = {kind: sum(entry["event"] == kind for entry in events) for kind in ("start", "done", "failed", "blocked")}
    assert count == {"start": 22, "done": 20, "failed": 2, "blocked": 2}
    assert [entry["time"] for entry in events] == sorted(str(entry["time"]) for entry in events)


def test_a_record_names_the_run_that_committed_it(batch: FinishedBatch) -> None:
    assert {record["run"] for record in batch.project.records().values()} == {batch.status.run}


def test_cpu_hours_are_allotted_cpus_times_seconds(batch: FinishedBatch) -> None:
    spent = sum(node["cpus"] * node["seconds"] for node in batch.status.document["nodes"])
    assert batch.status.document["cpu_hours"] * 3600 == pytest.approx(spent, abs=2.0)
    assert batch.status.document["gpu_hours"] == 0


def test_reused_artifacts_are_counted_apart(batch: FinishedBatch, tmp_path: Path) -> None:
    project = Project(tmp_path / "again")
    shutil.copytree(batch.project.folder, project.folder)
    assert project("run", "--inline", "--set", "seeds=[0, 1]").code == 1
    latest = read_runs(project.storage)[0]
    assert latest.run != batch.status.run
    document: Tree = dict(latest.document)
    assert document["reused"] == 20
    assert document["counts"]["done"] == 8  # type: ignore[index]


def test_a_full_disk_for_pages_and_logs_does_not_stop_the_run(batch: FinishedBatch, tmp_path: Path) -> None:
    """Here ``.runs`` and ``.logs`` are small disks of their own that are full; the artifacts have room."""
    project = Project(tmp_path / "full")
    shutil.copytree(batch.project.folder, project.folder)
    for name in (".runs", ".logs"):
        shutil.rmtree(project.storage / name)
    with mounted(project.storage / ".runs", "8k"), mounted(project.storage / ".logs", "8k"):
        for name in (".runs", ".logs"):
            filler = project.storage / name / "filler"
            with filler.open("wb", buffering=0) as stream, pytest.raises(OSError, match="No space left"):
                while True:
                    stream.write(b"x" * 4096)
        result = project("run", "--inline", *ONE_TASK, "--set", "seeds=[3]")
    assert result.code == 0, result.err
    warnings = [line for line in result.out.splitlines() if "cannot be written" in line]
    assert len(warnings) == 2, "one of the logs, one of the status"
