import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cluster.temporary import LOCK, UNLOCKED_AFTER, TemporaryFolder, remove_abandoned, temporary_folder

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def system_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_removed_at_the_end_of_its_block_also_after_an_error(system_folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt), temporary_folder("submit") as folder:
        (folder / "file").touch()
        raise KeyboardInterrupt
    assert list(system_folder.iterdir()) == []


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(1)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_folder_is_removed_when_its_process_ends_and_after_a_kill_by_the_next_process(
    end: str, system_folder: Path
) -> None:
    code = f"import os, signal; from cluster.temporary import TemporaryFolder; kept = TemporaryFolder('ray'); {end}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(system_folder)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment)
    assert len(list(system_folder.iterdir())) == (1 if ended.returncode == -signal.SIGKILL else 0)
    TemporaryFolder("train").remove()
    assert list(system_folder.iterdir()) == []


def test_folders_that_are_in_use_and_those_of_others_are_left(system_folder: Path) -> None:
    used = TemporaryFolder("ray")
    (system_folder / "stillhouse-mine").mkdir()
    (system_folder / "ray").mkdir()
    remove_abandoned()
    assert {path.name for path in system_folder.iterdir()} == {used.path.name, "stillhouse-mine", "ray"}
    used.remove()


def test_a_folder_without_a_lock_is_removed_only_when_it_is_old(system_folder: Path) -> None:
    old, young = system_folder / "stillhouse-train-old", system_folder / "stillhouse-train-young"
    for folder in (old, young):
        folder.mkdir()
    then = old.stat().st_mtime - UNLOCKED_AFTER - 1
    os.utime(old, (then, then))
    remove_abandoned()
    assert [path.name for path in system_folder.iterdir()] == [young.name]
    assert not (young / LOCK).exists()
