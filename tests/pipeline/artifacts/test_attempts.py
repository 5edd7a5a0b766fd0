import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from project import ROOT

from pipeline.artifacts.attempts import (
    STALE,
    TTL,
    Attempt,
    AttemptHeld,
    Fenced,
    Watch,
    beat,
    check,
    claim,
    known_dead,
    release,
    this_process,
)
from pipeline.storage.directory import Directory

KEY = "k" * 64
NOW = 1_000_000.0


def claimed(storage: Path, watch: Watch | None = None, now: float = NOW) -> Attempt:
    found = claim(Directory(storage), "teach", KEY, {} if watch is None else watch, lambda: now)
    assert isinstance(found, Attempt)
    return found


def held(storage: Path, watch: Watch | None = None, now: float = NOW) -> AttemptHeld:
    found = claim(Directory(storage), "teach", KEY, {} if watch is None else watch, lambda: now)
    assert isinstance(found, AttemptHeld)
    return found


OWNER = """
import sys, time
from pathlib import Path
from pipeline.artifacts.attempts import claim
from pipeline.storage.directory import Directory
attempt = claim(Directory(Path(sys.argv[1])), "teach", sys.argv[2], {}, lambda: float(sys.argv[3]))
(attempt.out / "shard").write_text("finished")
print(attempt.name, flush=True)
time.sleep(600)
"""


@pytest.fixture
def owner(tmp_path: Path) -> "Iterator[subprocess.Popen[str]]":
    """Another process that has claimed the first attempt, written one shard, and still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path), KEY, str(NOW)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "0001\n"
    yield process
    process.kill()
    process.communicate()


def test_a_live_owner_keeps_its_attempt(tmp_path: Path, owner: "subprocess.Popen[str]") -> None:
    found = held(tmp_path)
    assert found.owner is not None
    assert found.owner.pid == owner.pid


def test_the_attempt_of_a_killed_process_is_taken_over_at_once_with_its_finished_files(
    tmp_path: Path, owner: "subprocess.Popen[str]"
) -> None:
    owner.kill()
    owner.wait()
    attempt = claimed(tmp_path)
    assert attempt.number == 2
    assert (attempt.out / "shard").read_text("utf-8") == "finished"


def test_a_zombie_process_counts_as_dead(tmp_path: Path, owner: "subprocess.Popen[str]") -> None:
    """In a container, the first process often does not collect the exit status of its children."""
    owner.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{owner.pid}/stat").exists()
    assert claimed(tmp_path).number == 2


def test_the_attempt_of_a_stopped_process_is_taken_over_after_ttl_without_a_heartbeat(
    tmp_path: Path, owner: "subprocess.Popen[str]"
) -> None:
    owner.send_signal(signal.SIGSTOP)
    watch: Watch = {}
    held(tmp_path, watch, NOW + 1)
    held(tmp_path, watch, NOW + 1 + TTL)
    assert claimed(tmp_path, watch, NOW + 1.1 + TTL).number == 2


def test_rare_looks_do_not_take_over_a_live_attempt(tmp_path: Path) -> None:
    """The observer's clock counts, as the owner's clock may be wrong."""
    attempt, watch = claimed(tmp_path), Watch()
    for sight in range(5):
        held(tmp_path, watch, NOW + 100 * sight)
        attempt = beat(attempt, lambda: NOW)


def test_a_heartbeat_restarts_the_ttl(tmp_path: Path) -> None:
    attempt, watch = claimed(tmp_path), Watch()
    held(tmp_path, watch, NOW)
    beat(attempt, lambda: NOW + 15)
    held(tmp_path, watch, NOW + TTL + 1)
    held(tmp_path, watch, NOW + 2 * TTL)
    assert claimed(tmp_path, watch, NOW + 2 * TTL + 2).number == 2


def test_an_attempt_with_a_stale_heartbeat_is_taken_over_at_the_first_look(tmp_path: Path) -> None:
    claimed(tmp_path)
    held(tmp_path, {}, NOW + STALE)
    assert claimed(tmp_path, {}, NOW + STALE + 1).number == 2


def test_a_released_attempt_is_taken_over_at_once(tmp_path: Path) -> None:
    attempt = claimed(tmp_path)
    held(tmp_path)
    release(attempt)
    assert claimed(tmp_path).number == 2


def test_an_attempt_without_a_lease_is_taken_over_after_ttl(tmp_path: Path) -> None:
    home = tmp_path / ".work" / KEY / "0001"
    home.mkdir(parents=True)
    watch, now = Watch(), home.stat().st_mtime
    assert held(tmp_path, watch, now).owner is None
    assert claimed(tmp_path, watch, now + TTL + 1).number == 2


def test_a_fenced_attempt_can_neither_commit_nor_write_heartbeats(tmp_path: Path) -> None:
    first = claimed(tmp_path)
    check(first)
    release(first)
    second = claimed(tmp_path)
    with pytest.raises(Fenced, match="a later attempt took over"):
        check(first)
    with pytest.raises(Fenced):
        beat(first, lambda: NOW)
    check(second)


def test_no_number_is_used_twice(tmp_path: Path) -> None:
    """Otherwise a late writer could write into a later attempt of the same number."""
    (tmp_path / "teach" / KEY / "0007").mkdir(parents=True)
    assert claimed(tmp_path).number == 8


def test_one_of_many_concurrent_claims_succeeds(tmp_path: Path) -> None:
    start, found = threading.Barrier(16), []

    def work() -> None:
        start.wait()
        found.append(claim(Directory(tmp_path), "teach", KEY, {}, lambda: NOW))

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16, "no claim ends with an error"
    assert sum(isinstance(one, Attempt) for one in found) == 1


def test_a_late_write_into_the_old_directory_does_not_reach_the_new_one(tmp_path: Path) -> None:
    first = claimed(tmp_path)
    (first.out / "model").mkdir()
    (first.out / "model" / "weights").write_text("first", "utf-8")
    (first.out / "half.tmp").write_text("half", "utf-8")
    release(first)
    second = claimed(tmp_path)
    first.out.mkdir(exist_ok=True)
    (first.out / "model").mkdir(exist_ok=True)
    (first.out / "model" / "weights").write_text("late", "utf-8")
    (first.out / "later").write_text("late", "utf-8")
    files = {path.relative_to(second.out).as_posix() for path in second.out.rglob("*") if path.is_file()}
    assert files == {".lease.json", "model/weights"}
    assert (second.out / "model" / "weights").read_text("utf-8") == "first"


def test_a_late_write_is_not_adopted_by_a_later_attempt_either(tmp_path: Path) -> None:
    first = claimed(tmp_path)
    release(first)
    second = claimed(tmp_path)
    first.out.mkdir()
    (first.out / "late").write_text("late", "utf-8")
    release(second)
    assert not (claimed(tmp_path).out / "late").exists()


def test_an_interrupted_adoption_loses_no_file(tmp_path: Path) -> None:
    """The first attempt finished two shards; the second was killed after it had adopted one of them."""
    first = claimed(tmp_path)
    for name in ("one", "two"):
        (first.out / name).write_text(name, "utf-8")
    second = first.out.parent / "0002"
    second.mkdir()
    os.link(first.out / "one", second / "one")
    lease = json.loads((first.out / ".lease.json").read_text("utf-8"))
    (second / ".lease.json").write_text(json.dumps({**lease, "released": True}), "utf-8")
    third = claimed(tmp_path)
    assert third.number == 3
    assert {name: (third.out / name).read_text("utf-8") for name in ("one", "two")} == {"one": "one", "two": "two"}
    assert [path.name for path in third.out.parent.iterdir()] == ["0003"]


def test_releasing_a_removed_attempt_is_no_error(tmp_path: Path) -> None:
    attempt = claimed(tmp_path)
    (attempt.out / ".lease.json").unlink()
    attempt.out.rmdir()
    release(attempt)
    assert not attempt.out.exists()


# --- who is dead ----------------------------------------------------------------------------------


def test_this_process_is_not_dead() -> None:
    assert not known_dead(this_process(), this_process())


def test_a_reused_process_number_is_another_process() -> None:
    me = this_process()
    assert known_dead(replace(me, started="1"), me)


@pytest.mark.parametrize("field", ["host", "boot", "pids"])
def test_processes_of_another_host_boot_or_namespace_are_not_known_to_be_dead(field: str) -> None:
    me = this_process()
    stranger = replace(me, started="1", **{field: "another"})
    assert not known_dead(stranger, me)


def test_an_attempt_whose_number_another_process_has_reused_is_fenced(tmp_path: Path) -> None:
    """The key was removed by gc while its owner's heartbeat was late, so that numbers start at 1 again."""
    mine = claimed(tmp_path)
    theirs = replace(mine, lease=replace(mine.lease, owner=replace(mine.lease.owner, pid=1, started="long ago")))
    check(mine)
    with pytest.raises(Fenced):
        check(theirs)
