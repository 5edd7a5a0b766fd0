"""What a machine keeps of a bucket: whole artifacts, up to a size, the least recently used going first.

Processes share a cache. Each says in a file of its own, which it keeps locked, what it uses; what a living process
uses stays, even beyond the bound. The lock of a process that died is free, and what it used may go.
"""

import contextlib
import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from pipeline.storage.port import Files

USERS = ".users"
LOCKS = ".locks"


def cache_root(environment: Mapping[str, str]) -> Path:
    """``STILLHOUSE_CACHE``, else ``stillhouse`` below the user's cache directory (``XDG_CACHE_HOME`` is heeded)."""
    given = environment.get("STILLHOUSE_CACHE")
    if given:
        return Path(given).absolute()
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "stillhouse"


def bound_of(root: Path, environment: Mapping[str, str]) -> int:
    """Bytes that a cache may hold: ``STILLHOUSE_CACHE_BYTES``, else half of the disk that it lies on."""
    given = environment.get("STILLHOUSE_CACHE_BYTES", "")
    return int(given) if given.isdigit() else shutil.disk_usage(root).total // 2


class Cache:
    """The artifacts below ``root``, each in a folder ``<stage>/<key>/<attempt>``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._uses: dict[str, set[str]] = {}
        self._said: int | None = None
        self._pid = 0
        self._lock = threading.Lock()

    def hold(self, user: str, folder: str) -> None:
        """``folder`` stays until ``user``, a part of this process, lets go."""
        with self._lock, self.locked("uses"):
            self._uses.setdefault(user, set()).add(folder)
            self._say()

    def holds(self, user: str, folder: str) -> bool:
        with self._lock:
            return folder in self._uses.get(user, ())

    def let_go(self, user: str) -> None:
        with self._lock:
            if self._uses.pop(user, None):
                with self.locked("uses"):
                    self._say()

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Alone on this machine, as far as ``name`` goes."""
        path = self.root / LOCKS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def fill(self, folder: str, files: Files, bring: Callable[[str, Path], None]) -> Path:
        """Have all of ``files`` (path -> bytes, sha256) below ``folder``; ``bring(path, target)`` gets one. The folder
        is held by somebody already."""
        home = self.root / folder
        if self._lacking(home, files):
            with self.locked(folder.replace("/", "-")):
                for path in self._lacking(home, files):
                    target = home / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    draft = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.tmp")
                    bring(path, draft)
                    os.replace(draft, target)
        home.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.utime(home)
        return home

    def evict(self, bound: int) -> list[str]:
        """Remove what nobody uses, the least recently used first, until ``bound`` bytes are left; say what went."""
        gone: list[str] = []
        with self._lock, self.locked("uses"):
            used = {folder for uses in self._uses.values() for folder in uses} | self._used_elsewhere()
            found = sorted((home.stat().st_mtime, _size(home), home) for home in self._homes())
            total = sum(size for _, size, _ in found)
            for _, size, home in found:
                folder = home.relative_to(self.root).as_posix()
                if total > bound and folder not in used:
                    shutil.rmtree(home, ignore_errors=True)
                    total -= size
                    gone.append(folder)
        return gone

    def _homes(self) -> Iterator[Path]:
        return (path for path in self.root.glob("[!.]*/*/*") if path.is_dir())

    def _lacking(self, home: Path, files: Files) -> list[str]:
        return [path for path, (size, _) in files.items() if not _has(home / path, size)]

    def _say(self) -> None:
        """Write what this process uses, into a file that is locked while it lives."""
        if self._said is None or self._pid != os.getpid():
            folder = self.root / USERS
            folder.mkdir(parents=True, exist_ok=True)
            self._pid = os.getpid()
            self._said = os.open(folder / f"{self._pid}-{time.time_ns()}.json", os.O_CREAT | os.O_RDWR, 0o644)
            fcntl.flock(self._said, fcntl.LOCK_EX)
        text = json.dumps(sorted({folder for uses in self._uses.values() for folder in uses})).encode()
        os.ftruncate(self._said, 0)
        os.pwrite(self._said, text, 0)

    def _used_elsewhere(self) -> set[str]:
        used: set[str] = set()
        for path in sorted((self.root / USERS).glob("*.json")):
            if path.name.startswith(f"{os.getpid()}-"):
                continue
            with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    used.update(_listed(stream.read()))
                else:
                    path.unlink()  # whoever it was is gone
        return used


def _listed(text: bytes) -> Iterable[str]:
    try:
        found: list[str] = json.loads(text)
    except ValueError:
        return ()
    return found


def _has(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _size(home: Path) -> int:
    return sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
