"""Temporary folders that are removed when the process is done with them, and by a later process if it was killed.

Each folder holds a file that its process keeps locked. The system frees the lock when the process ends, however it
ends, so a folder whose lock can be taken belongs to no process any more. The file has its name only once it is locked,
and is the last that is removed, so that another process never finds it unlocked in a folder that is in use. Where the
file system has no locks, the folder is marked instead, and only its own process removes it.
"""

import atexit
import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn

PREFIX = "stillhouse-"
PURPOSES = ("ray", "train", "packages", "submit", "probe", "predict")
"""What folders are for: their names are ``stillhouse-<purpose>-<random>``."""
RANDOM_CHARACTERS = 8
"""How many characters ``tempfile.mkdtemp`` appends to a prefix: lower-case letters, digits and underscores."""
FOLDER_NAME = re.compile(rf"{PREFIX}({'|'.join(PURPOSES)})-[a-z0-9_]{{{RANDOM_CHARACTERS}}}")
SHORT_FOLDER = "/tmp"
"""Where a folder is made that would have too long a path among the system's temporary ones."""
RAY_FOLDER = "RAY_TMPDIR"
"""Environment variable: where Ray's temporary files are to lie."""
LOCK = ".owner"
"""The file that the owner of a folder keeps locked."""
NEW_LOCK = ".owner-new"
"""The name of that file until it is locked."""
UNLOCKED = ".owner-without-lock"
"""The name of that file where the file system has no locks."""
LEFTOVER_SECONDS = 7 * 24 * 3600.0
"""Seconds without any change after which a folder that has no owner's file counts as left behind. Earlier versions made
such folders, and a process that is killed while it makes a folder leaves one."""
REMOVE_SECONDS = 5.0
"""How long the removal of a folder is tried, as processes that are ending may still write to it."""


class TemporaryFolder:
    """A new folder among the system's temporary ones. It is removed by ``remove``, or else when this process exits."""

    def __init__(self, purpose: str, longest: int | None = None, parent: str | None = None) -> None:
        """Also removes the folders of processes that were killed. ``longest``: the longest path that is of use, in
        bytes. A folder that would have a longer one is made in ``SHORT_FOLDER``, if that can be written to. ``parent``:
        where the user wants it, instead of the system's temporary files. Raises OSError where no folder can be made."""
        assert purpose in PURPOSES, purpose
        remove_abandoned()
        self.path = _make_folder(f"{PREFIX}{purpose}-", longest, parent)
        try:
            self._lock = _lock(self.path)
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
            raise
        self._process = os.getpid()
        atexit.register(self.remove)

    def remove(self) -> None:
        """Remove the folder and all that is in it. Does nothing when called again, or in a fork of the process that
        made the folder."""
        if self._lock.closed or os.getpid() != self._process:
            return
        atexit.unregister(self.remove)
        ends = time.monotonic() + REMOVE_SECONDS
        with self._lock:
            while not _remove(self.path, self._lock) and time.monotonic() < ends:
                time.sleep(0.1)


@contextlib.contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """A ``TemporaryFolder`` for as long as the block runs."""
    folder = TemporaryFolder(purpose)
    try:
        yield folder.path
    finally:
        folder.remove()


def remove_abandoned() -> None:
    """Remove the folders of this user's processes that have ended without removing them. A folder without an owner's
    file is removed only if it looks like one of ours and was not changed for ``LEFTOVER_SECONDS``. Symbolic links, and
    what cannot be read or removed, are left."""
    for parent in {tempfile.gettempdir(), SHORT_FOLDER, os.environ.get(RAY_FOLDER) or SHORT_FOLDER}:
        with contextlib.suppress(OSError):
            for name in filter(FOLDER_NAME.fullmatch, os.listdir(parent)):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(Path(parent, name))


def _make_folder(prefix: str, longest: int | None, parent: str | None) -> Path:
    if parent:
        return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    usual = os.path.join(tempfile.gettempdir(), prefix)
    if longest is not None and len(os.fsencode(usual)) + RANDOM_CHARACTERS > longest:
        with contextlib.suppress(OSError):
            return Path(tempfile.mkdtemp(prefix=prefix, dir=SHORT_FOLDER))
    return Path(tempfile.mkdtemp(prefix=prefix))


def _lock(folder: Path) -> IO[bytes]:
    """The owner's file of a new folder, open: locked and named ``LOCK``, or named ``UNLOCKED`` where the file system
    has no locks. A lock is kept when its file gets another name."""
    new = folder / NEW_LOCK
    file = new.open("xb")
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # ENOLCK, ENOSYS, EOPNOTSUPP: no other process knows this file, so it cannot be locked already
            new.rename(folder / UNLOCKED)
        else:
            new.rename(folder / LOCK)
    except BaseException:
        file.close()
        raise
    return file


def _remove_if_abandoned(folder: Path) -> None:
    """Remove a folder that belongs to no process. Raises OSError where it is in use, or where that cannot be found
    out."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or os.path.lexists(folder / UNLOCKED):
        return
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        if _is_leftover(folder):
            shutil.rmtree(folder, ignore_errors=True)
        return
    with open(descriptor, "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises BlockingIOError while the owner lives
        # The owner may have removed the folder in the meantime, and the name may be another folder's by now.
        if os.path.samestat(os.fstat(file.fileno()), (folder / LOCK).lstat()):
            _remove(folder, file)


def _is_leftover(folder: Path) -> bool:
    """Whether a folder without an owner's file is one that an earlier version, or a process that was killed while it
    made the folder, has left behind: it has folders only, and nothing in it was changed for ``LEFTOVER_SECONDS``.
    Raises OSError where it cannot be read."""
    with os.scandir(folder) as entries:
        if not all(entry.is_dir(follow_symlinks=False) or entry.name == NEW_LOCK for entry in entries):
            return False
    oldest = time.time() - LEFTOVER_SECONDS
    for parent, _, files in os.walk(folder, onerror=_reraise):
        for path in (parent, *(os.path.join(parent, name) for name in files)):
            status = os.lstat(path)
            if max(status.st_mtime, status.st_ctime) > oldest:
                return False
    return True


def _reraise(error: OSError) -> NoReturn:
    raise error


def _remove(folder: Path, lock: IO[bytes]) -> bool:
    """Remove a folder of which this process holds the lock, and close the lock; whether nothing is left. The owner's
    file is kept while anything else is left, so that a later process removes the rest."""
    try:
        for path in _content(folder):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()
        if _content(folder):
            return False
        for name in (LOCK, UNLOCKED):
            (folder / name).unlink(missing_ok=True)
        lock.close()  # before the folder is removed, because NFS keeps a file that is open
        try:
            folder.rmdir()
        except OSError:  # a process wrote to it in the meantime
            (folder / LOCK).touch()
            raise
    except OSError:
        return not os.path.lexists(folder)
    return True


def _content(folder: Path) -> list[Path]:
    """What is in a folder beside the owner's file."""
    return [folder / name for name in os.listdir(folder) if name not in (LOCK, UNLOCKED)]
