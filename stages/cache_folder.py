"""The cache folder of a machine: where it lies, how many bytes it may hold, and what is removed when it is full.

    <root>/decoded/<store>-<boot>/                        columns of a teacher-output store, as files to map
    <root>/storage/<bucket>/<stage>/<key>/<attempt>/      an artifact of a bucket
    <root>/data/<content>/                                data files of a bucket, such as those of a task

All are entries of one cache under one bound. When room is needed, entries of any kind are removed, the least
recently used first, but never one that a living process holds, even where the bound is exceeded for it. A process holds
an entry by a shared lock on ``.<entry>.lock`` beside it, which the kernel releases when the process ends. Holding and
removing exclude each other (``<root>/.lock``), so that no process ever holds an entry that is being removed.

Needs the standard library only: the pipeline keeps its artifacts here without loading what computes them.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stages.byte_size import parse_size

FOLDER = "STILLHOUSE_CACHE"
BYTES = "STILLHOUSE_CACHE_BYTES"


@dataclass(frozen=True, slots=True)
class CacheFolder:
    """The cache below ``root``. ``most_bytes`` bounds all its entries together; None means half of the disk."""

    root: Path
    most_bytes: int | None = None

    @staticmethod
    def of(environment: Mapping[str, str]) -> "CacheFolder":
        """The cache that the environment names: ``STILLHOUSE_CACHE`` and ``STILLHOUSE_CACHE_BYTES``. Raises ValueError
        for a bound that is not a size."""
        return CacheFolder(cache_root(environment), cache_bound(environment))

    @property
    def bound(self) -> int:
        """Bytes that all entries together may have."""
        if self.most_bytes is not None:
            return self.most_bytes
        existing = nearest_existing(self.root)
        return shutil.disk_usage(existing).total // 2

    def decoded(self, store: str) -> Path:
        """The entry for the columns of the store with this digest. It is named after the boot of the machine, too: a
        file that was written before a power failure is never trusted, so nothing has to wait for the disk."""
        return self.root / "decoded" / f"{store}-{_boot()}"

    def bucket(self, name: str) -> Path:
        """The folder of a bucket, whose entries lie in it as ``<stage>/<key>/<attempt>``."""
        return self.root / "storage" / name

    def data(self, content: str) -> Path:
        """The entry for data files of a bucket with this content."""
        return self.root / "data" / content

    def hold(self, entry: Path) -> BinaryIO:
        """Keep an entry, which need not exist yet, from being removed until the returned file is closed, and mark it
        as used now."""
        with self._exclusive():
            lock = _lock_of(entry)
            with suppress(FileNotFoundError):
                os.utime(entry)
            fcntl.flock(lock, fcntl.LOCK_SH)
        return lock

    def make_room(self, needed: int = 0) -> list[Path]:
        """Remove entries until ``needed`` more bytes fit both the bound and the disk, or all that are left are held.
        What was decoded under an earlier boot is removed in any case. Returns the removed entries."""
        removed = []
        with self._exclusive():
            entries = sorted(self._entries(), key=lambda entry: (not self._outdated(entry), _last_use(entry)))
            sizes = {entry: _bytes(entry) for entry in entries}
            total = sum(sizes.values())
            for entry in entries:
                full = total + needed > self.bound or shutil.disk_usage(self.root).free < needed
                if (full or self._outdated(entry)) and _remove(entry):
                    total -= sizes[entry]
                    removed.append(entry)
        return removed

    def _entries(self) -> Iterator[Path]:
        """Names that start with a dot are not of entries: locks, checksums, work that is not committed."""
        for pattern in ("decoded/[!.]*", "data/[!.]*", "storage/*/[!.]*/*/[!.]*"):
            yield from (path for path in self.root.glob(pattern) if path.is_dir())

    def _outdated(self, entry: Path) -> bool:
        return entry.parent == self.root / "decoded" and not entry.name.endswith(f"-{_boot()}")

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def nearest_existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists. Raises OSError where it cannot be looked up."""
    return next(one for one in (folder, *folder.parents) if one.exists())


def cache_root(environment: Mapping[str, str]) -> Path:
    """``STILLHOUSE_CACHE``, else ``stillhouse`` in the user's cache directory (``XDG_CACHE_HOME``, ``~/.cache``), else,
    where that cannot be written, in the temporary directory."""
    given = environment.get(FOLDER)
    if given:
        return Path(given).absolute()
    home = Path(
        environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", "/nonexistent")) / ".cache"
    ).absolute()
    existing = nearest_existing(home)
    usable = os.access(existing, os.W_OK) and existing != Path("/")
    return (home if usable else Path(tempfile.gettempdir()) / f"stillhouse-{os.getuid()}") / "stillhouse"


def cache_bound(environment: Mapping[str, str]) -> int | None:
    """``STILLHOUSE_CACHE_BYTES`` in bytes; None where it is not set. Raises ValueError where it is not a size."""
    given = environment.get(BYTES, "").strip()
    if not given:
        return None
    try:
        return parse_size(int(given) if given.isdecimal() else given)
    except ValueError as error:
        raise ValueError(f"{BYTES}: {given}, {error}") from error


def _boot() -> str:
    """A short name of the machine's current boot."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip()[:8] if boot.exists() else "0"


def _lock_of(entry: Path) -> BinaryIO:
    entry.parent.mkdir(parents=True, exist_ok=True)
    return entry.with_name(f".{entry.name}.lock").open("ab")


def _last_use(entry: Path) -> float:
    """Seconds since 1970."""
    with suppress(FileNotFoundError):
        return entry.stat().st_mtime
    return 0.0


def _bytes(entry: Path) -> int:
    """Of all files in it; those that go meanwhile do not count."""
    total = 0
    for folder, _, files in os.walk(entry):
        for name in files:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _remove(entry: Path) -> bool:
    """Remove an entry, and what lies beside it under its name, unless a process holds it. Whether it was removed."""
    with _lock_of(entry) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(entry, ignore_errors=True)
        for path in entry.parent.glob(f".{entry.name}.*"):
            path.unlink(missing_ok=True)
    return True
