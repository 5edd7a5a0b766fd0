import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from buckets import at, make_bucket, s3_server
from project import record_for, write_artifact

from pipeline.artifacts.record import (
    DamagedRecord,
    Record,
    artifact_path,
    commit,
    content_digest,
    describe,
    find,
    missing,
    parsed_records,
    read_record,
    record_name,
    sweep,
    withdraw,
)
from pipeline.errors import RequestError
from pipeline.graph.nodes import ExternalInput, Node
from pipeline.storage import Storage
from pipeline.storage.bucket import Bucket
from pipeline.storage.directory import Directory
from stages.cache_folder import CacheFolder
from stages.specs.teacher import TeachSpec

NODE = Node("teach@tiny", "teach", "tiny", TeachSpec(), {"model": ExternalInput("m", Path("m"), "a model")})
NOBODY = 65534


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url, at(url):
        yield make_bucket("records")


@pytest.fixture(params=["directory", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "directory":
        return Directory(tmp_path / "runs")
    return Bucket(f"{request.getfixturevalue('server')}/{tmp_path.name}", CacheFolder(tmp_path / "cache"))


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
        "full_seconds",
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


DAMAGED_TEXTS = [
    "",
    "\0" * 40,
    "{",
    "[]",
    "{}",
    '{"format": 1}',
    '"text"',
    '{"format": 1, "files": 3}',
    "\udcff",
    "[" * 9999,
]


@pytest.mark.parametrize("text", DAMAGED_TEXTS)
def test_a_damaged_record_is_named_in_one_line_with_what_is_wrong(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(
        DamagedRecord, match=r"this record is damaged \(.+\); run its recipe to build it again, or remove the file$"
    ) as caught:
        read_record(Directory(tmp_path), path.relative_to(tmp_path).as_posix())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"facts": 3}, "its field facts is 3"),
        ({"facts": {"rows": "many"}}, "invalid literal for int() with base 10: 'many'"),
        ({"inputs": {"model": None}}, "its field model is None"),
        ({"files": [{"path": "a", "size": 1}]}, "it has no field sha256"),
        ({"files": ["a"]}, "it has no field path"),
        ({"committed": "lately"}, "Invalid isoformat string: 'lately'"),
        ({"format": "1"}, "its field format is '1'"),
        ({"key": "0" * 64}, f"it is the record of teach {'0' * 12}"),
    ],
)
def test_a_record_with_a_field_of_another_type_is_damaged(tmp_path: Path, changes: Any, reason: str) -> None:
    path = rewritten(tmp_path, **changes)
    with pytest.raises(DamagedRecord) as caught:
        read_record(Directory(tmp_path), path.relative_to(tmp_path).as_posix())
    assert caught.value.reason == reason
    (found,) = parsed_records(Directory(tmp_path)).values()
    assert isinstance(found, DamagedRecord) and found.reason == reason


def test_an_artifact_whose_record_is_damaged_counts_as_absent(storage: Storage) -> None:
    name = record_name("teach", NODE.key)
    for text in DAMAGED_TEXTS:
        storage.write(name, text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
        assert find(storage, "teach", NODE.key) is None
        assert content_digest(storage, storage.local / "teach" / NODE.key / "0001" / "model") == ""
        assert [type(found) for found in parsed_records(storage).values()] == [DamagedRecord]
    withdraw(storage, "teach", NODE.key)
    assert storage.create(name, "{}")


def test_a_folder_in_the_place_of_a_record_is_a_damaged_record_and_can_be_withdrawn(tmp_path: Path) -> None:
    storage, name = Directory(tmp_path), record_name("teach", NODE.key)
    (tmp_path / name / "something").mkdir(parents=True)
    with pytest.raises(DamagedRecord) as caught:
        read_record(storage, name)
    assert caught.value.reason == "it cannot be read: Is a directory"
    assert parsed_records(storage) == {}
    withdraw(storage, "teach", NODE.key)
    assert storage.create(name, "{}")


def test_a_record_that_may_not_be_read_is_a_damaged_record_and_a_closed_storage_is_none() -> None:
    """As a user who is not root, whom no permission binds."""
    home = Path(tempfile.mkdtemp())
    try:
        write_artifact(Directory(home), NODE)
        name = record_name("teach", NODE.key)
        with another_user(home):
            (home / name).chmod(0)
            with pytest.raises(DamagedRecord, match=r"it cannot be read: Permission denied"):
                read_record(Directory(home), name)
            assert find(Directory(home), "teach", NODE.key) is None
            (home / "teach").chmod(0)
            with pytest.raises(PermissionError):
                find(Directory(home), "teach", NODE.key)
            (home / "teach").chmod(0o755)
    finally:
        shutil.rmtree(home)


@contextmanager
def another_user(home: Path) -> Iterator[None]:
    """The block runs as a user who owns everything below ``home``: this one, or ``nobody`` in the place of root."""
    root = os.geteuid() == 0
    if root:
        for path in (home, *home.rglob("*")):
            os.chown(path, NOBODY, -1)
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


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
