import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from project import record_for, write_artifact

from pipeline.artifacts.record import (
    Record,
    artifact_path,
    commit,
    describe,
    find,
    missing,
    read_record,
    record_name,
    sweep,
    withdraw,
)
from pipeline.errors import RequestError
from pipeline.graph.nodes import ExternalInput, Node
from pipeline.storage.directory import Directory
from stages.specs.teacher import TeachSpec

NODE = Node("teach@tiny", "teach", "tiny", TeachSpec(), {"model": ExternalInput("m", Path("m"), "a model")})


def attempt(storage: Path, name: str = "0001", **files: str) -> Path:
    """An attempt's directory with these files."""
    out = storage / ".work" / NODE.key / name
    out.mkdir(parents=True)
    for file, text in (files or {"result.txt": "content"}).items():
        (out / file).write_text(text, "utf-8")
    return out


def test_what_is_committed_is_found_with_its_files(tmp_path: Path) -> None:
    out = attempt(tmp_path, a="one", b="three")
    (out / "model").mkdir()
    (out / "model" / "weights").write_text("w", "utf-8")
    record = commit(Directory(tmp_path), out, record_for(NODE, out))
    assert find(Directory(tmp_path), "teach", NODE.key) == record
    assert [(file.path, file.size) for file in record.files] == [("a", 3), ("b", 5), ("model/weights", 1)]
    assert (artifact_path(Directory(tmp_path), record) / "model" / "weights").read_text("utf-8") == "w"
    assert record.bytes == 9


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_a_file_that_only_its_owner_may_read_is_published_as_the_umask_has_it(
    tmp_path: Path, mask: int, mode: int
) -> None:
    before = os.umask(mask)
    try:
        out = attempt(tmp_path, weights="w", other="o")
        (out / "weights").chmod(0o600)
        record = commit(Directory(tmp_path), out, record_for(NODE, out))
    finally:
        os.umask(before)
    found = artifact_path(Directory(tmp_path), record)
    assert {path.name: path.stat().st_mode & 0o777 for path in found.iterdir()} == {"weights": mode, "other": mode}


def test_without_a_record_there_is_no_artifact(tmp_path: Path) -> None:
    record = write_artifact(Directory(tmp_path), NODE)
    withdraw(Directory(tmp_path), "teach", NODE.key)
    assert (artifact_path(Directory(tmp_path), record) / "result.txt").exists()
    assert find(Directory(tmp_path), "teach", NODE.key) is None


def test_of_two_commits_the_first_wins_and_the_second_returns_its_record(tmp_path: Path) -> None:
    first, second = attempt(tmp_path, "0001", a="first"), attempt(tmp_path, "0002", a="second")
    drafts = [record_for(NODE, out) for out in (first, second)]
    standing = [commit(Directory(tmp_path), out, draft) for out, draft in zip((first, second), drafts, strict=True)]
    assert standing == [drafts[0], drafts[0]]
    assert (artifact_path(Directory(tmp_path), standing[1]) / "a").read_text("utf-8") == "first"
    assert sorted(path.name for path in (tmp_path / "teach" / NODE.key).iterdir()) == ["0001", "record.json"]


def test_one_of_many_concurrent_commits_wins(tmp_path: Path) -> None:
    outs = [attempt(tmp_path, f"{number:04d}", a=str(number)) for number in range(1, 17)]
    start, standing = threading.Barrier(len(outs)), []

    def work(out: Path) -> None:
        record = record_for(NODE, out)
        start.wait()
        standing.append(commit(Directory(tmp_path), out, record))

    threads = [threading.Thread(target=work, args=(out,)) for out in outs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({record.attempt for record in standing}) == 1
    home = tmp_path / "teach" / NODE.key
    assert sorted(path.name for path in home.iterdir()) == [standing[0].attempt, "record.json"]


def test_a_record_is_written_if_absent_and_leaves_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    assert Directory(tmp_path).create("record.json", "one")
    assert not Directory(tmp_path).create("record.json", "two")
    assert path.read_text("utf-8") == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_scratch_leases_and_temporaries_are_not_published(tmp_path: Path) -> None:
    out = attempt(tmp_path, **{"result.txt": "r", ".lease.json": "{}", "half.tmp": "h"})
    for folder in ("scratch", "model/scratch"):
        (out / folder).mkdir(parents=True)
        (out / folder / "part").write_text("p", "utf-8")
    assert [file.path for file in describe(out)] == ["result.txt", "model/scratch/part"]


def test_a_checksum_is_of_the_content(tmp_path: Path) -> None:
    record = write_artifact(Directory(tmp_path), NODE, "abc")
    assert record.files[0].sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("harm", ["removed", "cut", "grown"])
def test_an_artifact_with_a_missing_or_truncated_file_is_not_found(tmp_path: Path, harm: str) -> None:
    record = write_artifact(Directory(tmp_path), NODE)
    file = artifact_path(Directory(tmp_path), record) / "result.txt"
    file.unlink()
    if harm != "removed":
        file.write_text("con" if harm == "cut" else "content and more", "utf-8")
    assert missing(Directory(tmp_path), record) == "result.txt"
    assert find(Directory(tmp_path), "teach", NODE.key) is None


def test_a_sweep_keeps_the_committed_attempt(tmp_path: Path) -> None:
    record = write_artifact(Directory(tmp_path), NODE)
    attempt(tmp_path, "0002")
    (tmp_path / "teach" / NODE.key / "0000").mkdir()
    sweep(Directory(tmp_path), record)
    assert sorted(path.name for path in (tmp_path / "teach" / NODE.key).iterdir()) == ["0001", "record.json"]
    assert not (tmp_path / ".work" / NODE.key).exists()
    assert find(Directory(tmp_path), "teach", NODE.key) == record


def test_rows_are_summed_over_splits(tmp_path: Path) -> None:
    out = attempt(tmp_path)
    assert record_for(NODE, out, rows={"train": 3, "validation": 2}).rows == 5
    assert record_for(NODE, out, rows=7).rows == 7


def test_a_record_has_spec_inputs_places_and_provenance(tmp_path: Path) -> None:
    write_artifact(Directory(tmp_path), NODE)
    document = json.loads((tmp_path / record_name("teach", NODE.key)).read_text("utf-8"))
    required = {"spec", "inputs", "files", "facts", "code", "workers", "threads", "seconds", "committed", "hardware"}
    assert required | {
        "format",
        "snapshot",
        "stage",
        "version",
        "key",
        "name",
        "recipe",
        "attempt",
        "places",
        "contents",
        "priors",
        "run",
    } == set(document)
    assert document["spec"]["pooling"] == "mean"


# --- records that cannot be read ------------------------------------------------------------------


def rewritten(tmp_path: Path, **changes: Any) -> Path:
    write_artifact(Directory(tmp_path), NODE)
    path = tmp_path / record_name("teach", NODE.key)
    document = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**document, **changes}), "utf-8")
    return path


def test_a_record_from_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = rewritten(tmp_path, format=2, novelty="unheard of")
    with pytest.raises(RequestError) as caught:
        read_record(Directory(tmp_path), path.relative_to(tmp_path).as_posix())
    assert str(caught.value) == (
        f"{path}: record format 2 is newer than 1, the newest that this version reads; upgrade Stillhouse"
    )


def test_an_unknown_field_is_ignored(tmp_path: Path) -> None:
    assert isinstance(
        read_record(Directory(tmp_path), rewritten(tmp_path, remark="fine").relative_to(tmp_path).as_posix()), Record
    )


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": 1}', '"text"', '{"format": 1, "files": 3}', "\udcff"]
)
def test_a_damaged_record_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RequestError, match=r"this record is damaged .*; remove the file to build it again$") as caught:
        read_record(Directory(tmp_path), path.relative_to(tmp_path).as_posix())
    assert "\n" not in str(caught.value)


def test_files_are_published_without_a_copy(tmp_path: Path) -> None:
    """A store of many gigabytes is committed at once."""
    out = attempt(tmp_path)
    record = commit(Directory(tmp_path), out, record_for(NODE, out))
    assert (out / "result.txt").samefile(artifact_path(Directory(tmp_path), record) / "result.txt")


def test_a_record_of_another_attempt_has_its_own_files(tmp_path: Path) -> None:
    out = attempt(tmp_path)
    record = replace(record_for(NODE, out), attempt="0009")
    commit(Directory(tmp_path), out, record)
    assert (tmp_path / "teach" / NODE.key / "0009" / "result.txt").exists()
