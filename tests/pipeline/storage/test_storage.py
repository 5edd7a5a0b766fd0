"""What a storage promises, of a directory and of a bucket on a real S3 server."""

import os
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from buckets import at, make_bucket, s3_server
from s3fs.errors import translate_boto_error

from cluster.inline import Inline
from cluster.resources import Resources, SilentListener
from pipeline.artifacts.attempts import Attempt, AttemptHeld, Fenced, check, claim, release
from pipeline.errors import RequestError
from pipeline.execution.build_node import downloaded
from pipeline.storage import Storage, open_storage
from pipeline.storage.bucket import Bucket
from pipeline.storage.directory import Directory
from stages.cache_folder import CacheFolder
from stages.checksum import file_sha256


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url, at(url):
        yield make_bucket("house")


Machine = Callable[..., Bucket]


@pytest.fixture
def machine(server: str, tmp_path: Path) -> Machine:
    """The same bucket, from the machine of that name, whose cache may have a bound."""
    return lambda name, most_bytes=None: Bucket(f"{server}/{tmp_path.name}", CacheFolder(tmp_path / name, most_bytes))


def evict(bucket: Bucket, most_bytes: int = 0) -> list[str]:
    """Remove what the bound of this many bytes leaves no room for."""
    removed = CacheFolder(bucket.cache_folder.root, most_bytes).make_room()
    return [entry.relative_to(bucket.local).as_posix() for entry in removed]


@pytest.fixture(params=["directory", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "directory":
        return Directory(tmp_path / "runs")
    bucket: Bucket = request.getfixturevalue("machine")("here")
    return bucket


def work(storage: Storage, **files: str) -> Path:
    """An attempt's directory with these files."""
    out = storage.local / ".work" / "k" / "0001"
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (out / name).write_text(text, "utf-8")
    return out


def files_of(out: Path, *names: str) -> dict[str, tuple[int, str]]:
    return {name: ((out / name).stat().st_size, file_sha256(out / name)) for name in names}


# --- both -----------------------------------------------------------------------------------------


def test_what_is_written_is_read_and_what_is_removed_is_gone(storage: Storage) -> None:
    assert storage.read("a/b") is None
    storage.write("a/b", "one")
    storage.write("a/b", "two")
    assert (storage.read("a/b"), storage.read_many(["a/b", "a/c"])) == ("two", {"a/b": "two"})
    storage.remove("a/b")
    storage.remove("a/b")
    assert storage.read("a/b") is None


def test_of_many_calls_that_create_a_document_one_does(storage: Storage) -> None:
    start, made = threading.Barrier(8), []

    def create(number: int) -> None:
        start.wait()
        made.append((storage.create("record", str(number)), number))

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [number for did, number in made if did]
    assert storage.read("record") == str(winner)


def test_a_folder_is_listed_walked_and_dropped(storage: Storage) -> None:
    for name in ("stage/key/one", "stage/key/sub/two", "stage/other/three"):
        storage.write(name, name)
    assert storage.entries("stage/key") == ["one", "sub"]
    assert storage.entries("nowhere") == []
    walked = storage.walk("stage/key")
    assert {name: entry.size for name, entry in walked.items()} == {"stage/key/one": 13, "stage/key/sub/two": 17}
    storage.drop("stage/key")
    storage.drop("stage/key")
    assert list(storage.walk()) == ["stage/other/three"]


def test_what_is_published_is_fetched(storage: Storage) -> None:
    out = work(storage, a="one", b="three")
    storage.publish(out, "stage/key/0001", files_of(out, "a", "b"))
    assert storage.lacking("stage/key/0001", [("a", 3), ("b", 5)]) == ""
    assert storage.lacking("stage/key/0001", [("a", 3), ("b", 4)]) == "b"
    assert storage.lacking("stage/key/0001", [("a", 3), ("c", 1)]) == "c"
    found = storage.fetch("stage/key/0001", files_of(out, "a", "b"))
    assert {path.name: path.read_text("utf-8") for path in found.iterdir()} == {"a": "one", "b": "three"}


def test_a_snapshot_reads_as_the_storage_did(storage: Storage) -> None:
    storage.write("stage/key/record.json", "record")
    storage.write(".named/x.key", "key")
    found = storage.snapshot()
    assert (found.read("stage/key/record.json"), found.read(".named/x.key"), found.read("no")) == (
        "record",
        "key",
        None,
    )
    assert (found.entries("stage"), found.entries("")) == (["key"], [".named", "stage"])


def test_a_storage_that_can_be_written_passes_its_check_and_keeps_nothing_of_it(storage: Storage) -> None:
    storage.check()
    assert storage.walk() == {}


def test_a_directory_that_cannot_be_looked_at_is_refused() -> None:
    with pytest.raises(RequestError, match=r"^storage: x+ cannot be read \(.*\); give another directory$"):
        open_storage("x" * 300)


# --- buckets --------------------------------------------------------------------------------------


def test_another_machine_fetches_what_one_has_published(machine: Machine) -> None:
    here, there = machine("here"), machine("there")
    out = work(here, a="one")
    here.publish(out, "stage/key/0001", files_of(out, "a"))
    assert (there.fetch("stage/key/0001", files_of(out, "a")) / "a").read_text("utf-8") == "one"


def put_error(code: str, status: int) -> OSError:
    """What s3fs makes of such an answer to a conditional put."""
    answer = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = translate_boto_error(ClientError(answer, "PutObject"))  # type: ignore[arg-type]
    assert isinstance(error, OSError)
    return error


def refusing(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, *errors: OSError) -> None:
    """Let the server answer so to the next puts."""
    left, put = list(errors), bucket.quick.pipe_file

    def pipe_file(*arguments: object, **options: object) -> object:
        if left:
            raise left.pop(0)
        return put(*arguments, **options)

    monkeypatch.setattr(bucket.quick, "pipe_file", pipe_file)


def test_a_server_may_refuse_a_conditional_put_without_naming_the_condition(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some do that are not Amazon's; s3fs then raises an error of no particular kind."""
    here = machine("here")
    here.write("a/b", "theirs")
    error = put_error("PreconditionFailed", 412)
    assert not isinstance(error, FileExistsError)
    refusing(here, monkeypatch, error, error)
    assert not here.create("a/b", "ours")
    assert here.create("a/b", "theirs"), "the answer to our own put was lost"


def test_a_put_that_meets_another_at_the_same_moment_is_tried_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine("here")
    refusing(here, monkeypatch, put_error("ConditionalRequestConflict", 409))
    assert here.create("a/b", "ours")
    assert here.read("a/b") == "ours"


def test_a_put_that_may_not_be_made_is_no_refusal(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    here = machine("here")
    refusing(here, monkeypatch, put_error("AccessDenied", 403))
    with pytest.raises(PermissionError):
        here.create("a/b", "ours")


def test_a_file_that_is_not_what_its_record_says_is_not_read(machine: Machine) -> None:
    here, there = machine("here"), machine("there")
    out = work(here, a="one")
    here.publish(out, "stage/key/0001", files_of(out, "a"))
    files = files_of(out, "a")
    there.write("stage/key/0001/a", "two")
    with pytest.raises(OSError, match="not what its record says"):
        there.fetch("stage/key/0001", files)
    assert (there.inspect("stage/key/0001", files) / "a").read_text("utf-8") == "two"
    assert (here.inspect("stage/key/0001", files) / "a").read_text("utf-8") == "two"


def test_an_artifact_that_was_built_anew_elsewhere_is_not_read_as_it_was(machine: Machine) -> None:
    """Its key was freed, so that its attempt has the same number; its file has the same size."""
    here, there = machine("here"), machine("there")
    first, second = work(here, a="one"), work(there, a="two")
    here.publish(first, "stage/key/0001", files_of(first, "a"))
    there.drop("stage/key")
    there.publish(second, "stage/key/0001", files_of(second, "a"))
    assert (here.fetch("stage/key/0001", files_of(second, "a")) / "a").read_text("utf-8") == "two"


def test_an_artifact_may_be_published_where_this_machine_still_has_an_earlier_one(machine: Machine) -> None:
    here, there = machine("here"), machine("there")
    first = work(here, a="one")
    here.publish(first, "stage/key/0001", files_of(first, "a"))
    there.drop("stage/key")
    (first / "a").unlink()
    second = work(here, a="two")
    here.publish(second, "stage/key/0001", files_of(second, "a"))
    assert (here.fetch("stage/key/0001", files_of(second, "a")) / "a").read_text("utf-8") == "two"


def test_the_bound_holds_for_what_is_built_here_too(machine: Machine) -> None:
    here = machine("here", 250)
    for number in range(4):
        out = work(here, a=str(number) * 100)
        here.publish(out, f"stage/{number}/0001", files_of(out, "a"))
        os.utime(here.local / f"stage/{number}/0001", (number, number))
    assert sorted(path.parent.name for path in here.local.glob("stage/*/0001")) == ["2", "3"]


def test_an_eviction_beside_it_takes_nothing_of_what_is_being_published(machine: Machine) -> None:
    here = machine("here")
    ended = threading.Event()

    def keep_evicting() -> None:
        while not ended.is_set():
            evict(here)

    out = work(here, **{f"file{number}": str(number) for number in range(20)})
    evicting = threading.Thread(target=keep_evicting)
    evicting.start()
    try:
        for number in range(5):
            here.publish(out, f"stage/{number}/0001", files_of(out, *(path.name for path in out.iterdir())))
    finally:
        ended.set()
        evicting.join()
    assert len(here.walk("stage")) == 100


def test_a_fetch_that_was_cut_goes_on_with_the_files_that_are_left(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = machine("here"), machine("there")
    out = work(here, a="one", b="two", c="three")
    files = files_of(out, "a", "b", "c")
    here.publish(out, "stage/key/0001", files)
    download, request = there.download, list[str]()

    def cut(name: str, target: Path) -> None:
        request.append(name.rpartition("/")[2])
        if len(request) == 3:
            raise OSError("the line is cut")
        download(name, target)

    monkeypatch.setattr(there, "download", cut)
    with pytest.raises(OSError, match="the line is cut"):
        there.fetch("stage/key/0001", files)
    there.fetch("stage/key/0001", files)
    assert request == ["a", "b", "c", "c"]


@pytest.mark.parametrize("url", ["runs", "s3://house/runs"])
def test_a_bound_of_the_cache_that_is_no_size_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLHOUSE_CACHE_BYTES", "lots")
    with pytest.raises(RequestError, match=r"^STILLHOUSE_CACHE_BYTES: lots, must be a size above 0, such as 50GB"):
        open_storage(url)


def test_a_bucket_that_is_pickled_has_the_bound_of_the_machine_where_it_is_opened(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine("here")
    monkeypatch.setenv("STILLHOUSE_CACHE_BYTES", "250")
    again = pickle.loads(pickle.dumps(here))
    assert (again, again.local, again.cache_folder.bound) == (here, here.local, 250)


def test_a_user_that_has_released_its_artifacts_keeps_no_file_open(machine: Machine) -> None:
    here = machine("here")
    out = work(here, a="one")
    here.publish(out, "stage/key/0001", files_of(out, "a"))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        another = Bucket(here.url, here.cache_folder)
        another.fetch("stage/key/0001", files_of(out, "a"), "user")
        another.release("user")
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_least_recently_used_goes_when_the_cache_is_full_and_what_is_in_use_stays(
    machine: Machine,
) -> None:
    here, there = machine("here"), machine("there", 250)
    files = {}
    for number in range(4):
        out = work(here, a=str(number) * 100)
        here.publish(out, f"stage/{number}/0001", files_of(out, "a"))
        files[number] = files_of(out, "a")
    there.fetch("stage/0/0001", files[0], "one stage")
    for number in (1, 2, 3):
        os.utime(there.fetch(f"stage/{number}/0001", files[number], "another"), (number, number))
        there.release("another")
    there.fetch("stage/1/0001", files[1])
    kept = {path.parent.name for path in there.local.glob("stage/*/0001") if (path / "a").exists()}
    assert kept == {"0", "1"}
    there.release("one stage")
    assert evict(there, 100) == ["stage/0/0001"]


def test_what_another_living_process_uses_stays(machine: Machine) -> None:
    here = machine("here")
    out = work(here, a="x" * 100)
    here.publish(out, "stage/1/0001", files_of(out, "a"))
    pid = os.fork()
    if pid == 0:
        here.fetch("stage/1/0001", files_of(out, "a"))
        (here.local / "holding").write_text("in use", "utf-8")
        threading.Event().wait(60)
        os._exit(0)
    while not (here.local / "holding").exists():
        threading.Event().wait(0.05)
    assert evict(here) == []
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    assert evict(here) == ["stage/1/0001"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://house/runs", "give a directory, s3://bucket/prefix or gs://bucket/prefix"),
        ("s3://", "storage: s3:// names no bucket; give s3://bucket/prefix"),
    ],
)
def test_a_url_that_means_nothing_is_refused(url: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        open_storage(url)


def test_a_bucket_that_is_not_there_is_refused(server: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="storage: s3://nowhere/runs: there is no such bucket; make it first"):
        Bucket("s3://nowhere/runs", CacheFolder(tmp_path)).check()


# --- attempts in a bucket -------------------------------------------------------------------------

KEY = "a" * 64


def claimed(storage: Storage) -> Attempt:
    found = claim(storage, "teach", KEY, {})
    assert isinstance(found, Attempt)
    return found


def finished(attempt: Attempt, name: str, push: bool = True) -> None:
    """A file that the attempt has finished, in the bucket or on its way there."""
    (attempt.out / name).write_text(name, "utf-8")
    mirror = attempt.storage.mirror(attempt.folder, {})
    if push and mirror is not None:
        mirror.push()


def test_another_machine_goes_on_from_what_was_sent(machine: Machine) -> None:
    here, there = machine("here"), machine("there")
    first = claimed(here)
    finished(first, "sent")
    finished(first, "on its way", push=False)
    assert isinstance(claim(there, "teach", KEY, {}), AttemptHeld)
    release(first)
    second = claimed(there)
    mirror = there.mirror(second.folder, {})
    assert mirror is not None
    mirror.pull()
    assert second.number == 2
    assert [path.name for path in second.out.iterdir() if not path.name.startswith(".")] == ["sent"]
    assert {name.split("/")[2] for name in here.walk(".work")} == {"0002"}
    with pytest.raises(Fenced):
        check(first)


def test_the_same_machine_goes_on_from_what_was_on_its_way_too(machine: Machine) -> None:
    here = machine("here")
    first = claimed(here)
    finished(first, "sent")
    finished(first, "on its way", push=False)
    release(first)
    second = claimed(here)
    assert sorted(path.name for path in second.out.iterdir()) == ["on its way", "sent"]
    fetched: list[str] = []
    here.download = lambda name, _: fetched.append(name)  # type: ignore[method-assign]
    mirror = here.mirror(second.folder, {})
    assert mirror is not None
    mirror.pull()
    assert fetched == [], "what is here need not come from the bucket"


def test_a_late_push_does_not_reach_the_attempt_that_took_over(machine: Machine) -> None:
    here, there = machine("here"), machine("there")
    first = claimed(here)
    release(first)
    second = claimed(there)
    finished(first, "late")
    mirror = there.mirror(second.folder, {})
    assert mirror is not None
    mirror.pull()
    assert not (second.out / "late").exists()
    release(second)
    third = claimed(there)
    assert not [name for name in there.walk(third.folder) if name.endswith("late")]


# --- work that is mirrored ------------------------------------------------------------------------

OUT = ".work/k/0001"


def test_what_one_machine_writes_the_others_have_after_a_push_and_a_pull(machine: Machine) -> None:
    here, there = machine("here"), machine("there")
    one, two = here.mirror(OUT, {}), there.mirror(OUT, {})
    assert one is not None and two is not None
    assert one.here != two.here
    work(here, a="one", b="two")
    one.push()
    two.pull()
    assert (there.local / OUT / "a").read_text("utf-8") == "one"
    work(there, a="three")
    (there.local / OUT / "b").unlink()
    two.push()
    one.pull()
    assert [path.name for path in sorted((here.local / OUT).iterdir())] == ["a"]
    assert (here.local / OUT / "a").read_text("utf-8") == "three"


def test_a_pull_does_not_undo_what_was_written_since_the_last_push(machine: Machine) -> None:
    here = machine("here")
    mirror = here.mirror(OUT, {})
    assert mirror is not None
    work(here, a="one")
    mirror.push()
    work(here, a="later", b="new", **{"half.tmp": "half"})
    mirror.pull()
    assert {path.name: path.read_text("utf-8") for path in (here.local / OUT).iterdir()} == {
        "a": "later",
        "b": "new",
        "half.tmp": "half",
    }
    mirror.push()
    assert {name: here.read(name) for name in here.walk(OUT)} == {f"{OUT}/a": "later", f"{OUT}/b": "new"}


def test_a_pull_brings_the_inputs(machine: Machine) -> None:
    here, there = machine("here"), machine("there")
    out = work(here, a="one")
    here.publish(out, "stage/key/0001", files_of(out, "a"))
    mirror = there.mirror(".work/other/0001", {"stage/key/0001": files_of(out, "a")})
    assert mirror is not None
    mirror.pull()
    assert (there.local / "stage/key/0001/a").read_text("utf-8") == "one"


def test_a_training_in_this_process_leaves_the_inputs_to_its_stage(machine: Machine) -> None:
    here, there = machine("here"), machine("there")
    out = work(here, a="one")
    here.publish(out, "stage/key/0001", files_of(out, "a"))
    mirror = there.mirror(".work/other/0001", {"stage/key/0001": files_of(out, "a")})
    with downloaded(mirror):
        Inline().on(Resources(), SilentListener(), mirror).train(lambda *_: None, None)
        assert evict(there) == []
    assert evict(there) == ["stage/key/0001"]


def test_a_machine_removes_what_it_has_of_attempts_that_ended_elsewhere(machine: Machine) -> None:
    here, there = machine("here"), machine("there")
    names = (".work/ended/0001", ".work/living/0001", ".work/young/0001")
    for name in names:
        here.write(f"{name}/.lease.json", "lease")
        here.write(f"{name}/checkpoint", "weights")
        mirror = there.mirror(name, {})
        assert mirror is not None
        mirror.pull()
    here.drop(".work/ended")
    here.drop(".work/young")
    for name in names[:2]:
        os.utime(there.local / name / ".." / ".synced-0001.json", (0, 0))
    last = there.mirror(OUT, {})
    assert last is not None
    last.pull()
    assert [(there.local / name / "checkpoint").exists() for name in names] == [False, True, True]


def test_a_mirror_of_a_directory_is_none(tmp_path: Path) -> None:
    assert Directory(tmp_path).mirror(OUT, {}) is None
