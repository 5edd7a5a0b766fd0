"""A work folder of a bucket, kept alike on all machines that work on it.

What was written here and is not in the bucket yet goes there with ``push``; what another machine put there since comes
here with ``pull``. Which version of a file was last the same in both places is remembered beside the folder, so that
neither undoes the other: a file that changed in the bucket comes, one that changed only here stays until it goes.

Who ends an attempt removes it from the bucket and from its own machine. Others find out when they next bring files.
"""

import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pipeline.storage.cache import ArtifactCache
from pipeline.storage.directory import link
from pipeline.storage.port import LEASE, WORK, Entry, Files
from stages.atomic import replacing

OLD = 3600.0
"""Seconds without a change after which this machine asks whether anybody is still at an attempt."""

Signature = tuple[int, int, int]
"""Bytes, time of the last change in nanoseconds, inode: another file, or another content, has another."""


class MirroredStore(Protocol):
    """What a mirror needs of the storage whose work folder it keeps; ``Bucket`` has it."""

    @property
    def local(self) -> Path: ...
    @property
    def cache(self) -> ArtifactCache: ...
    def read(self, name: str) -> str | None: ...
    def remove(self, name: str) -> None: ...
    def walk(self, folder: str = "") -> dict[str, Entry]: ...
    def put(self, source: Path, name: str) -> None: ...
    def download(self, name: str, target: Path) -> None: ...
    def fetch(self, folder: str, files: Files, user: str = "") -> Path: ...
    def let_go(self, user: str) -> None: ...


@dataclass
class Synced:
    """path -> (signature of the file here, version in the bucket) when both were last the same."""

    bucket: MirroredStore
    folder: str
    known: dict[str, tuple[Signature, str]] = field(default_factory=dict)

    @staticmethod
    def load(bucket: MirroredStore, folder: str) -> "Synced":
        found = Synced(bucket, folder)
        try:
            document = json.loads(found.file.read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return found
        found.known = {path: ((one[0][0], one[0][1], one[0][2]), one[1]) for path, one in document.items()}
        return found

    def save(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.file) as draft:
            draft.write_text(json.dumps(self.known), "utf-8")

    @property
    def file(self) -> Path:
        home = self.bucket.local / self.folder
        return home.with_name(f".synced-{home.name}.json")

    @property
    def home(self) -> Path:
        return self.bucket.local / self.folder

    def current(self, path: str) -> bool:
        """Whether the bucket has the file as it is here."""
        return path in self.known and self.known[path][0] == signature(self.home / path)

    @staticmethod
    def adopt(bucket: MirroredStore, old: str, new: str, found: Mapping[str, Entry]) -> None:
        """What this machine has of the attempt in ``old`` need not come from the bucket: it is linked into ``new``."""
        before, after = Synced.load(bucket, old), Synced(bucket, new)
        copies = bucket.walk(new)
        for path in local_files(before.home):
            target = after.home / path
            target.parent.mkdir(parents=True, exist_ok=True)
            there = found.get(f"{old}/{path}")
            if there is None:
                link(before.home / path, target)  # finished here, and on its way when it was cut
            elif before.current(path) and before.known[path][1] == there.version and f"{new}/{path}" in copies:
                link(before.home / path, target)
                sign = signature(target)
                if sign is not None:
                    after.known[path] = (sign, copies[f"{new}/{path}"].version)
        after.save()
        before.file.unlink(missing_ok=True)


@dataclass(frozen=True)
class BucketMirror:
    """The cluster's ``Mirror`` of one attempt. ``inputs``: folder of an artifact -> its files."""

    bucket: MirroredStore
    out: str
    inputs: Mapping[str, Files]

    @property
    def here(self) -> str:
        """The name that this machine's copy gave itself."""
        file = self.bucket.local / ".here"
        if not file.exists():
            with self.bucket.cache.locked("here"):
                if not file.exists():
                    file.write_text(uuid.uuid4().hex, "utf-8")
        return file.read_text("utf-8")

    def pull(self) -> None:
        self._clear_away(time.time())
        user = f"{self.out} {os.getpid()}"
        for folder, files in self.inputs.items():
            if not self.bucket.cache.holds(user, folder):  # else an earlier pull has brought it, and it stays
                self.bucket.fetch(folder, files, user)
        with self._alone():
            synced = Synced.load(self.bucket, self.out)
            synced.home.mkdir(parents=True, exist_ok=True)
            there = {name[len(self.out) + 1 :]: entry for name, entry in self.bucket.walk(self.out).items()}
            there.pop(LEASE, None)
            for path, entry in there.items():
                if path not in synced.known or synced.known[path][1] != entry.version:
                    self._bring(path, entry, synced)
            for path in [path for path in synced.known if path not in there]:
                if synced.current(path):  # another machine has removed it
                    (synced.home / path).unlink(missing_ok=True)
                del synced.known[path]
            synced.save()

    def push(self) -> None:
        with self._alone():
            synced = Synced.load(self.bucket, self.out)
            before = dict(synced.known)
            for path in local_files(synced.home):
                if not synced.current(path):
                    self._send(path, synced)
            for path in [path for path in synced.known if not (synced.home / path).exists()]:
                self.bucket.remove(f"{self.out}/{path}")
                del synced.known[path]
            if synced.known != before:
                synced.save()

    def close(self) -> None:
        self.bucket.let_go(f"{self.out} {os.getpid()}")

    def _clear_away(self, now: float) -> None:
        """Remove what lies here of attempts that are over. Each has a lease in the bucket as long as it is not."""
        for known in (self.bucket.local / WORK).glob("*/.synced-*.json"):
            home = known.with_name(known.name.removeprefix(".synced-").removesuffix(".json"))
            folder = home.relative_to(self.bucket.local).as_posix()
            with contextlib.suppress(FileNotFoundError):
                if now - known.stat().st_mtime > OLD and self.bucket.read(f"{folder}/{LEASE}") is None:
                    shutil.rmtree(home, ignore_errors=True)
                    known.unlink()

    def _bring(self, path: str, entry: Entry, synced: Synced) -> None:
        target = synced.home / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(target) as draft:
                self.bucket.download(f"{self.out}/{path}", draft)
        except FileNotFoundError:  # it was removed since the bucket was listed
            return
        sign = signature(target)
        if sign is not None:
            synced.known[path] = (sign, entry.version)

    def _send(self, path: str, synced: Synced) -> None:
        sign = signature(synced.home / path)
        if sign is None:
            return
        bucket, name = self.bucket, f"{self.out}/{path}"
        try:
            bucket.put(synced.home / path, name)
        except FileNotFoundError:
            if (synced.home / path).exists():
                raise
            return  # the stage has removed it since
        entry = bucket.walk(name).get(name)
        if entry is not None:
            synced.known[path] = (sign, entry.version)

    def _alone(self) -> AbstractContextManager[None]:
        return self.bucket.cache.locked(self.out.replace("/", "-"))


def local_files(home: Path) -> Iterator[str]:
    """The files of a work folder that are whole: no lease, no draft."""
    for folder, folders, files in os.walk(home):
        folders.sort()
        for name in sorted(files):
            if name != LEASE and not name.endswith(".tmp"):
                yield (Path(folder) / name).relative_to(home).as_posix()


def signature(path: Path) -> Signature | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ino
