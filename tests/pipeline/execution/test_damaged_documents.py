"""Runs over a storage whose documents are damaged: every command does without them, and a run replaces them."""

import json
import shutil
from pathlib import Path

import pytest
from project import Project, graph_in, nodes_by_name, stillhouse, write_project

from pipeline.artifacts.attempts import STALE, Attempt, AttemptHeld, claim
from pipeline.artifacts.external_upload import MANIFEST, upload_input
from pipeline.artifacts.failure import has_failed
from pipeline.artifacts.record import read_record, record_name
from pipeline.execution.runner import Outcome, record_names
from pipeline.graph.nodes import ExternalInput
from pipeline.plan.planner import reason_to_build
from pipeline.recipe import load
from pipeline.storage.directory import Directory

NO_KD, VANILLA = "evaluate/no-kd/two/0@tiny", "evaluate/vanilla-kd/two/0@tiny"


def record_path(project: Project, name: str) -> Path:
    return project.artifact(name).parent / "record.json"


def test_no_command_stops_at_a_damaged_record_and_a_run_replaces_it(built: Project) -> None:
    scores = {row["key"]: row["score"] for row in built.rows()}
    harmed = {
        name: record_path(built, name) for name in built.records() if name.startswith("evaluate/") and "/two/" in name
    }
    texts = {name: path.read_text("utf-8") for name, path in harmed.items()}
    cut, listed, typed, folder = harmed.values()
    cut.write_text(cut.read_text("utf-8")[:200], "utf-8")
    listed.write_text("[]", "utf-8")
    typed.write_text(json.dumps({**json.loads(typed.read_text("utf-8")), "files": {}}), "utf-8")
    folder.unlink()
    folder.mkdir()

    plan = built.plan()
    assert {name for name, step in plan.items() if step["action"] == "build"} == set(harmed)
    reasons = {path: str(plan[name]["why"]) for name, path in harmed.items()}
    assert reasons[cut].startswith("record is damaged: no whole JSON: ")
    assert reasons[listed] == "record is damaged: it holds [], not the fields of a record; built again"
    assert reasons[typed] == "record is damaged: its field files is {}; built again"
    assert reasons[folder] == "record is damaged: it cannot be read: Is a directory; built again"
    assert {row["status"] for row in built.rows() if row["method"] != "teacher"} == {"missing"}
    storage = ("--storage", str(built.storage))
    assert stillhouse("curves", str(built.recipe), *storage, "--out", str(built.folder / "curves")).code == 0
    for command in ("show", "verify"):
        for target in (str(listed.parent), listed.parent.name[:12], folder.parent.name[:12]):
            result = stillhouse(command, target, *storage)
            assert result.code == 2
            assert "this record is damaged (" in result.err and result.err.count("\n") == 1
    found = built("gc")
    assert found.code == 0
    assert "its record is damaged, so it would be built again" in found.out

    done = built("run", "--inline")
    assert done.code == 0, done.err
    assert {row["key"]: row["score"] for row in built.rows()} == scores
    assert {step["action"] for step in built.plan().values()} == {"reuse"}
    assert built.unfinished() == []
    for name, path in harmed.items():
        again = json.loads(path.read_text("utf-8"))
        assert again["files"] and again["facts"]["scores"] == json.loads(texts[name])["facts"]["scores"]
        assert sorted(one.name for one in path.parent.iterdir()) == [again["attempt"], "record.json"]


def test_a_sound_record_that_another_run_put_in_the_place_of_a_damaged_one_is_not_removed(
    built: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run is quicker: between the plan and the start of the stage."""
    path = record_path(built, NO_KD)
    sound = path.read_text("utf-8")
    path.write_text("{", "utf-8")
    from pipeline.execution import runner

    claim_key = runner.claim

    def later(*arguments: object, **options: object) -> object:
        path.write_text(sound, "utf-8")
        return claim_key(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "claim", later)
    assert built.plan()[NO_KD]["action"] == "build"
    assert built("run", "--inline").code == 0
    assert path.read_text("utf-8") == sound
    assert built.unfinished() == []


@pytest.mark.parametrize("text", ["", "\0\0\0", "[]", "{", '{"owner": 3}'])
def test_an_attempt_with_a_damaged_lease_is_taken_over_once_it_is_old(tmp_path: Path, text: str) -> None:
    """A power failure may leave one; the attempt's finished files are kept."""
    storage, key = Directory(tmp_path), "a" * 64
    first = claim(storage, "teach", key, {})
    assert isinstance(first, Attempt)
    (first.out / "shard").write_text("finished", "utf-8")
    lease = first.out / ".lease.json"
    lease.write_text(text, "utf-8")
    now = lease.stat().st_mtime
    assert isinstance(claim(storage, "teach", key, {}, lambda: now), AttemptHeld)
    second = claim(storage, "teach", key, {}, lambda: now + STALE + 1)
    assert isinstance(second, Attempt)
    assert (second.out / "shard").read_text("utf-8") == "finished"


@pytest.mark.parametrize("harm", ["", "../..", "a folder"])
def test_a_damaged_note_of_a_nodes_last_key_changes_nothing_but_the_reason(
    built: Project, assets: Path, harm: str
) -> None:
    storage = Directory(built.storage)
    note = built.storage / ".named" / "tiny" / f"{NO_KD}.key"
    note.unlink()
    if harm == "a folder":
        note.mkdir()
    else:
        note.write_text(harm, "utf-8")
    graph = graph_in(storage, load(built.recipe, (), str(built.storage)))
    node = nodes_by_name(graph)[NO_KD]
    assert reason_to_build(node, storage, "tiny") == "never built"
    record = read_record(storage, record_name("evaluate", node.key))
    assert record is not None
    record_names(graph, Outcome({node.key: record}), storage, "tiny")
    assert note.read_text("utf-8") == node.key


def test_a_damaged_note_of_a_failure_is_a_note(tmp_path: Path) -> None:
    (tmp_path / ".failed" / "k").mkdir(parents=True)
    assert has_failed(Directory(tmp_path), "k")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"config.json": 3}'])
def test_an_external_model_whose_list_of_files_is_damaged_is_uploaded_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", "utf-8")
    given, storage = ExternalInput("m", tmp_path / "model", "a model"), Directory(tmp_path / "runs")
    folder, files = upload_input(given, "model", storage)
    (storage.local / folder / MANIFEST).write_text(text, "utf-8")
    assert upload_input(given, "model", storage) == (folder, files)
    shutil.rmtree(tmp_path / "model")
    assert upload_input(given, "model", storage) == (folder, files), "it is not read again"


def test_a_damaged_lineage_stops_no_gc(built: Project, assets: Path) -> None:
    assert "nothing to do" in built("run", "--inline").out, "the last run of the name is one of this file"
    (built.artifact(VANILLA) / "lineage.json").write_text("{", "utf-8")
    record_path(built, VANILLA).write_text("", "utf-8")
    other = write_project(built.folder, assets, seeds=[7])
    result = stillhouse("gc", str(other.recipe), "--storage", str(built.storage))
    assert result.code == 0 and VANILLA in result.out
