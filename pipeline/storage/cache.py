"""What a machine keeps of a bucket: whole artifacts, up to a size, the least recently used going first.

A file counts as there if it came with the checksum that is asked for: a key whose artifact was freed and built anew
elsewhere has the same folder, and files of the same sizes, but may have other bits.

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

from pipeline.errors import RequestError
from pipeline.sizes import parse_size
from pipeline.storage.atomic import draft_of, sync
from pipeline.storage.port import Files

USERS = ".users"
LOCKS = ".locks"
BYTES = "STILLHOUSE_CACHE_BYTES"


def cache_root(environment: Mapping[str, str]) -> Path:
    """``STILLHOUSE_CACHE``, else ``stillhouse`` below the user's cache directory (``XDG_CACHE_HOME`` is heeded)."""
    given = environment.get("STILLHOUSE_CACHE")
    if given:
        return Path(given).absolute()
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "stillhouse"


def bound_of(root: Path, environment: Mapping[str, str]) -> int:
    """Bytes that a cache may hold: ``STILLHOUSE_CACHE_BYTES``, else half of the disk that it lies on. Raises
    ``RequestError``."""
    given = environment.get(BYTES, "").strip()
    if given:
        try:
            return parse_size(int(given) if given.isdecimal() else given)
        except ValueError as error:
            raise RequestError(f"{BYTES}: {given}, {error}") from error
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    return shutil.disk_usage(there).total // 2


class Cache:
    """The artifacts below ``root``, each in a folder ``<stage>/<key>/<attempt>``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._uses: dict[str, set[str]] = {}
        self._said: int | None = None
        self._file = root
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
                    if self._uses:
                        self._say()
                    else:
                        self._hush()

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

    def fill(self, folder: str, files: Files, bring: Callable[[str, Path], None]) -> bool:
        """Have all of ``files`` (path -> bytes, sha256) below ``folder``; ``bring(path, target)`` gets one. The folder
        is held by somebody already. Whether anything had to be brought."""
        home, brought = self.root / folder, False
        if self._lacking(home, files):
            with self._filling(folder):
                for path in self._lacking(home, files):
                    target = home / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    draft = draft_of(target)
                    bring(path, draft)
                    _place(draft, target)
                    self._came(home, {path: files[path]})  # each by itself: who is cut goes on from there
                    brought = True
        home.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.utime(home)
        return brought

    def take(self, folder: str, files: Files, out: Path) -> None:
        """Have ``files`` below ``folder`` as links to those below ``out``, whatever was there before."""
        home = self.root / folder
        with self._filling(folder):
            for path in files:
                target = home / path
                target.parent.mkdir(parents=True, exist_ok=True)
                draft = draft_of(target)
                os.link(out / path, draft)
                _place(draft, target)
            self._came(home, files)

    def _filling(self, folder: str) -> contextlib.AbstractContextManager[None]:
        return self.locked(folder.replace("/", "-"))

    def evict(self, bound: int) -> list[str]:
        """Remove what nobody uses, the least recently used first, until ``bound`` bytes are left; say what went."""
        gone: list[str] = []
        with self._lock, self.locked("uses"):
            used = {folder for uses in self._uses.values() for folder in uses} | self._used_elsewhere()
            found = sorted(told for home in self._homes() if (told := _told(home)) is not None)
            total = sum(size for _, size, _ in found)
            for _, size, home in found:
                folder = home.relative_to(self.root).as_posix()
                if total > bound and folder not in used:
                    self.drop(folder)
                    total -= size
                    gone.append(folder)
        return gone

    def drop(self, folder: str) -> None:
        """Have nothing of it."""
        _checksums(self.root / folder).unlink(missing_ok=True)
        shutil.rmtree(self.root / folder, ignore_errors=True)

    def _homes(self) -> Iterator[Path]:
        return (path for path in self.root.glob("[!.]*/*/*") if path.is_dir())

    def _lacking(self, home: Path, files: Files) -> list[str]:
        """Those that are not there, or came as something else."""
        came = _read(_checksums(home))
        return [
            path for path, (size, digest) in files.items() if came.get(path) != digest or not _has(home / path, size)
        ]

    def _came(self, home: Path, files: Files) -> None:
        """Note as what they have come, once they are on the disk. Their lock is held."""
        file = _checksums(home)
        came = _read(file) | {path: digest for path, (_, digest) in files.items()}
        draft = draft_of(file)
        draft.write_text(json.dumps(came), "utf-8")
        _place(draft, file)

    def _say(self) -> None:
        """Write what this process uses, into a file that is locked while it lives."""
        if self._said is None or self._pid != os.getpid():
            folder = self.root / USERS
            folder.mkdir(parents=True, exist_ok=True)
            self._pid = os.getpid()
            self._file = folder / f"{self._pid}-{time.time_ns()}.json"
            self._said = os.open(self._file, os.O_CREAT | os.O_RDWR, 0o644)
            fcntl.flock(self._said, fcntl.LOCK_EX)
        text = json.dumps(sorted({folder for uses in self._uses.values() for folder in uses})).encode()
        os.ftruncate(self._said, 0)
        os.pwrite(self._said, text, 0)

    def _hush(self) -> None:
        """It uses nothing any more."""
        if self._said is not None and self._pid == os.getpid():
            self._file.unlink(missing_ok=True)
            os.close(self._said)
        self._said = None

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


def _checksums(home: Path) -> Path:
    """The file that says as what each file below ``home`` came: path -> sha256."""
    return home.with_name(f".{home.name}.came.json")


def _read(file: Path) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(file.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found


def _place(draft: Path, target: Path) -> None:
    """The whole of it, even where the power fails."""
    sync(draft)
    os.replace(draft, target)


def _told(home: Path) -> tuple[float, int, Path] | None:
    """When it was last used, and its bytes. None where it is going, or changing."""
    try:
        size = sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
        return home.stat().st_mtime, size, home
    except FileNotFoundError:
        return None
