"""What a machine keeps of a bucket: whole artifacts, as entries of the machine's cache folder.

A file counts as present if it came with the checksum that is wanted: a key whose artifact was freed and built anew
elsewhere has the same folder, and files of the same sizes, but may have other bits.

Processes share a cache. What a living process holds stays, even beyond the bound (``stages/cache_folder.py``).
"""

import contextlib
import fcntl
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.storage.port import Files
from stages.atomic import replacing
from stages.cache_folder import CacheFolder

LOCKS = ".locks"


class ArtifactCache:
    """The artifacts of a bucket below ``root``, each in a folder ``<stage>/<key>/<attempt>`` that is an entry of
    ``cache_folder``."""

    def __init__(self, cache_folder: CacheFolder, root: Path) -> None:
        self.cache_folder = cache_folder
        self.root = root
        self._held: dict[str, dict[str, BinaryIO]] = {}
        self._lock = threading.Lock()

    def hold(self, user: str, folder: str) -> None:
        """Keep ``folder`` from being removed until ``user``, a part of this process, releases it."""
        with self._lock:
            held = self._held.setdefault(user, {})
            former, held[folder] = held.get(folder), self.cache_folder.hold(self.root / folder)
            if former is not None:  # an artifact that was dropped since has lost the lock that it had
                former.close()

    def holds(self, user: str, folder: str) -> bool:
        with self._lock:
            return folder in self._held.get(user, ())

    def release(self, user: str) -> None:
        """Let all that ``user`` holds be removed when room is needed."""
        with self._lock:
            for lock in self._held.pop(user, {}).values():
                lock.close()

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Exclude all other blocks of the same ``name`` on this machine."""
        path = self.root / LOCKS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def fill(self, folder: str, files: Files, fetch: Callable[[str, Path], None]) -> bool:
        """Have all of ``files`` (path -> bytes, sha256) below ``folder``, which the caller holds. What is missing is
        written by ``fetch(path, draft)``. Returns whether anything was."""
        home, fetched = self.root / folder, False
        if self._missing(home, files):
            with self._filling(folder):
                for path in self._missing(home, files):
                    target = home / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with replacing(target, durable=True) as draft:
                        fetch(path, draft)
                    # After each file, so that a fetch that is cut goes on with the files that are left.
                    self._note(home, {path: files[path]})
                    fetched = True
        home.mkdir(parents=True, exist_ok=True)
        return fetched

    def take(self, folder: str, files: Files, out: Path) -> None:
        """Have ``files`` below ``folder`` as links to those below ``out``, whatever was there before."""
        home = self.root / folder
        with self._filling(folder):
            for path in files:
                target = home / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with replacing(target, durable=True) as draft:
                    os.link(out / path, draft)
            self._note(home, files)

    def _filling(self, folder: str) -> contextlib.AbstractContextManager[None]:
        return self.locked(folder.replace("/", "-"))

    def drop(self, folder: str) -> None:
        """Remove all below ``folder``, held or not."""
        _checksums(self.root / folder).unlink(missing_ok=True)
        shutil.rmtree(self.root / folder, ignore_errors=True)

    def _missing(self, home: Path, files: Files) -> list[str]:
        """The files that are not there, or came with another checksum."""
        known = _read(_checksums(home))
        return [
            path for path, (size, digest) in files.items() if known.get(path) != digest or not _has(home / path, size)
        ]

    def _note(self, home: Path, files: Files) -> None:
        """Record the checksums of files that are on the disk. The caller is in a block of ``_filling``."""
        file = _checksums(home)
        known = _read(file) | {path: digest for path, (_, digest) in files.items()}
        with replacing(file, durable=True) as draft:
            draft.write_text(json.dumps(known), "utf-8")


def _has(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _checksums(home: Path) -> Path:
    """The file with the checksum that each file below ``home`` came with: path -> sha256."""
    return home.with_name(f".{home.name}.came.json")


def _read(file: Path) -> dict[str, str]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
