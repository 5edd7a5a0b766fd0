import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from cluster import temporary
from cluster.temporary import LEFTOVER_SECONDS, LOCK, NEW_LOCK, TemporaryFolder, remove_abandoned, temporary_folder

ROOT = Path(__file__).parents[2]
LEFT_BEHIND = "stillhouse-train-ab12cd_9"
"""A name as ``tempfile.mkdtemp`` makes it."""


@pytest.fixture(autouse=True)
def system_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "system"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(temporary, "SHORT_FOLDER", str(tmp_path / "short"))
    return folder


@pytest.fixture
def eight_days_later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time() + LEFTOVER_SECONDS + 24 * 3600
    monkeypatch.setattr(time, "time", lambda: now)


def python(code: str, system_folder: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(system_folder)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_is_removed_at_the_end_of_its_block_also_after_an_error(system_folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt), temporary_folder("submit") as folder:
        (folder / "file").touch()
        raise KeyboardInterrupt
    assert names_in(system_folder) == set()


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(1)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_folder_is_removed_when_its_process_ends_and_after_a_kill_by_the_next_process(
    end: str, system_folder: Path
) -> None:
    code = f"import os, signal; from cluster.temporary import TemporaryFolder; kept = TemporaryFolder('ray'); {end}"
    ended = python(code, system_folder).wait()
    assert len(names_in(system_folder)) == (1 if ended == -signal.SIGKILL else 0)
    TemporaryFolder("train").remove()
    assert names_in(system_folder) == set()


def test_the_end_of_a_fork_does_not_remove_the_folder_of_its_parent(system_folder: Path) -> None:
    code = """
import os, sys
from cluster.temporary import TemporaryFolder
folder = TemporaryFolder("ray")
child = os.fork()
if child == 0:
    sys.exit()
os.waitpid(child, 0)
sys.exit(0 if folder.path.exists() else "removed")
"""
    assert python(code, system_folder).wait() == 0
    assert names_in(system_folder) == set()


# --- processes that start at the same time ------------------------------------------------------------


def test_a_folder_outlives_a_removal_of_abandoned_folders_just_before_it_is_locked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lock = fcntl.flock

    def remove_and_lock(file: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        remove_abandoned()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", remove_and_lock)
    with temporary_folder("ray") as folder:
        assert names_in(folder) == {LOCK}


def test_processes_that_start_together_leave_each_other_their_folders(system_folder: Path) -> None:
    make = """
import sys
from cluster.temporary import LOCK, TemporaryFolder
for _ in range(300):
    folder = TemporaryFolder("submit")
    (folder.path / "file").write_text("content")
    if not (folder.path / LOCK).exists() or not (folder.path / "file").exists():
        sys.exit("removed")
    folder.remove()
"""
    sweep = "from cluster.temporary import remove_abandoned\nwhile True: remove_abandoned()"
    makers = [python(make, system_folder) for _ in range(2)]
    sweepers = [python(sweep, system_folder) for _ in range(2)]
    try:
        assert [maker.wait(timeout=60) for maker in makers] == [0, 0]
        assert [sweeper.poll() for sweeper in sweepers] == [None, None]
    finally:
        for process in makers + sweepers:
            process.kill()
            process.wait()
    assert names_in(system_folder) == set()


@pytest.mark.parametrize("step", [(shutil, "rmtree"), (Path, "rmdir")])
def test_what_is_written_to_a_folder_while_it_is_removed_is_removed_by_a_later_process(
    step: tuple[object, str], system_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by processes of a killed run that take a while to end."""
    abandoned = system_folder / "stillhouse-ray-00000000"
    (abandoned / "session").mkdir(parents=True)
    (abandoned / LOCK).touch()
    remove = getattr(*step)

    def write_and_remove(path: Path, **options: bool) -> None:
        (abandoned / "logs").mkdir(parents=True, exist_ok=True)
        remove(path, **options)
        (abandoned / "logs").mkdir(parents=True, exist_ok=True)

    with monkeypatch.context() as beside_a_writer:
        beside_a_writer.setattr(*step, write_and_remove)
        remove_abandoned()
    assert (abandoned / "logs").exists()
    remove_abandoned()
    assert names_in(system_folder) == set()


# --- folders that are not ours ------------------------------------------------------------------------


def test_folders_that_are_in_use_and_those_of_others_are_left(system_folder: Path) -> None:
    used = TemporaryFolder("ray")
    (system_folder / "stillhouse-mine").mkdir()
    (system_folder / "ray").mkdir()
    remove_abandoned()
    assert names_in(system_folder) == {used.path.name, "stillhouse-mine", "ray"}
    used.remove()


@pytest.mark.usefixtures("eight_days_later")
def test_folders_that_a_user_made_under_similar_names_are_left_however_old(system_folder: Path) -> None:
    (system_folder / "stillhouse-train-mydata" / "split").mkdir(parents=True)
    (system_folder / "stillhouse-train-my-model" / "split").mkdir(parents=True)
    (system_folder / LEFT_BEHIND).mkdir()
    (system_folder / LEFT_BEHIND / "rows.csv").touch()
    before = names_in(system_folder)
    remove_abandoned()
    assert names_in(system_folder) == before
    assert names_in(system_folder / LEFT_BEHIND) == {"rows.csv"}


@pytest.mark.parametrize("content", ["", "experiment/checkpoint/weights", NEW_LOCK])
def test_what_an_earlier_version_or_a_kill_at_the_start_left_is_removed_after_seven_days_without_a_change(
    content: str, system_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = system_folder / LEFT_BEHIND
    left.mkdir()
    if content:
        (left / content).parent.mkdir(parents=True, exist_ok=True)
        (left / content).touch()
    old = time.time() - LEFTOVER_SECONDS + 3600
    os.utime(left, (old, old))
    remove_abandoned()
    assert left.exists()
    now = time.time() + LEFTOVER_SECONDS + 3600
    monkeypatch.setattr(time, "time", lambda: now)
    remove_abandoned()
    assert not left.exists()


def test_a_folder_of_an_earlier_version_is_left_while_a_run_writes_to_any_file_in_it(
    system_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = system_folder / LEFT_BEHIND / "experiment" / "log"
    log.parent.mkdir(parents=True)
    log.touch()
    now = time.time() + LEFTOVER_SECONDS + 3600
    os.utime(log, (now, now))
    monkeypatch.setattr(time, "time", lambda: now)
    remove_abandoned()
    assert log.exists()


@pytest.mark.usefixtures("eight_days_later")
def test_symbolic_links_are_neither_removed_nor_followed(system_folder: Path, tmp_path: Path) -> None:
    """Links that are named as our folders are, that stand for an owner's file, and that lie in an abandoned folder."""
    others = tmp_path / "others"
    (others / "data").mkdir(parents=True)
    (others / "data" / "file").touch()
    (system_folder / LEFT_BEHIND).symlink_to(others)
    linked_lock = system_folder / "stillhouse-ray-00000000"
    linked_lock.mkdir()
    (linked_lock / LOCK).symlink_to(others / "data" / "file")
    abandoned = system_folder / "stillhouse-ray-11111111"
    abandoned.mkdir()
    (abandoned / LOCK).touch()
    (abandoned / "link").symlink_to(others)
    remove_abandoned()
    assert names_in(system_folder) == {LEFT_BEHIND, linked_lock.name}
    assert names_in(others / "data") == {"file"}


# --- systems that differ ------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_a_folder_is_left_by_all_other_processes_and_removed_by_its_own(
    code: int, system_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as without_locks:
        without_locks.setattr(fcntl, "flock", refuse)
        folder = TemporaryFolder("ray")
        remove_abandoned()
    now = time.time() + LEFTOVER_SECONDS + 3600
    with monkeypatch.context() as later:
        later.setattr(time, "time", lambda: now)
        remove_abandoned()  # locks may be supported again, as on NFS
    assert folder.path.exists()
    folder.remove()
    assert names_in(system_folder) == set()


def test_a_folder_that_cannot_be_used_is_not_left_behind(system_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, to: Path) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="quota"):
        TemporaryFolder("ray")
    assert names_in(system_folder) == set()


def test_a_folder_whose_path_would_be_too_long_is_made_in_the_short_folder_if_there_is_one(
    system_folder: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short"
    longest = len(os.fsencode(system_folder)) + len("/stillhouse-ray-") + 8
    assert TemporaryFolder("ray", longest).path.parent == system_folder
    assert TemporaryFolder("ray", longest - 1).path.parent == system_folder
    short.mkdir()
    assert TemporaryFolder("ray", longest).path.parent == system_folder
    folder = TemporaryFolder("ray", longest - 1)
    assert folder.path.parent == short
    folder.remove()
    assert names_in(short) == set()


def test_a_folder_of_a_killed_process_is_also_removed_from_the_short_folder(tmp_path: Path) -> None:
    abandoned = tmp_path / "short" / "stillhouse-ray-00000000"
    abandoned.mkdir(parents=True)
    (abandoned / LOCK).touch()
    remove_abandoned()
    assert not abandoned.exists()
