"""Temporary folders that are removed when the process is done with them, and by a later process if it was killed.

Each folder holds a file that its process keeps locked. The system frees the lock when the process ends, however it
ends, so a folder whose lock can be taken belongs to no process any more.
"""

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "stillhouse-"
PURPOSES = ("ray", "train", "packages", "submit")
"""What folders are for: their names are ``stillhouse-<purpose>-<random>``. An earlier version made those of ``train``,
which it did not always remove."""
LOCK = ".owner"
UNLOCKED_AFTER = 3600.0
"""Seconds after its last change from which a folder without a lock is taken to belong to no process."""
REMOVE_SECONDS = 5.0
"""How long the removal of a folder is tried, as processes that are ending may still write to it."""


class TemporaryFolder:
    """A new folder among the system's temporary ones. It is removed by ``remove``, or else when this process exits."""

    def __init__(self, purpose: str) -> None:
        """Also removes the folders of processes that were killed."""
        assert purpose in PURPOSES, purpose
        remove_abandoned()
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-"))
        self._lock = os.open(self.path / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        atexit.register(self.remove)

    def remove(self) -> None:
        """Remove the folder and all that is in it. A second call does nothing."""
        if self._lock < 0:
            return
        atexit.unregister(self.remove)
        ends = time.monotonic() + REMOVE_SECONDS
        while self.path.exists() and time.monotonic() < ends:
            shutil.rmtree(self.path, ignore_errors=True)
            if self.path.exists():
                time.sleep(0.1)
        os.close(self._lock)
        self._lock = -1


@contextlib.contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """A ``TemporaryFolder`` for as long as the block runs."""
    folder = TemporaryFolder(purpose)
    try:
        yield folder.path
    finally:
        folder.remove()


def remove_abandoned() -> None:
    """Remove the folders of this user's processes that have ended without removing them. What cannot be read or removed
    is left."""
    for purpose in PURPOSES:
        for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}{purpose}-*"):
            with contextlib.suppress(OSError):
                if path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.getuid() and _abandoned(path):
                    shutil.rmtree(path, ignore_errors=True)


def _abandoned(path: Path) -> bool:
    """Whether no process has the folder's lock. Raises OSError where that cannot be found out."""
    try:
        lock = os.open(path / LOCK, os.O_RDWR)
    except FileNotFoundError:  # of an earlier version, or made by a process that is just about to lock it
        return time.time() - path.stat().st_mtime > UNLOCKED_AFTER
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
