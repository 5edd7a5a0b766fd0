"""The work folder of an attempt, synchronised between this machine and a bucket.

``push`` uploads what was written here and is not in the bucket yet; ``pull`` downloads what another machine has
uploaded since. The version of each file that was last equal in both places is recorded beside the folder, so that
neither undoes the other: a file that changed in the bucket is downloaded; one that changed only here stays until it is
uploaded.

The process that ends an attempt removes it from the bucket and from its own machine. Other machines remove theirs at
their next ``pull``.
"""

import contextlib
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pipeline.storage.cache import ArtifactCache
from pipeline.storage.directory import link
from pipeline.storage.port import LEASE, WORK, Entry, Files, Storage
from stages.atomic import replacing

OLD = 3600.0
"""Seconds without a change after which this machine checks whether an attempt has ended elsewhere."""

Signature = tuple[int, int, int]
"""Bytes, time of the last change in nanoseconds, inode: together they differ for another file or another content."""


class MirroredStore(Protocol):
    """What a mirror needs of its storage; ``Bucket`` implements it."""

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
    def release(self, user: str) -> None: ...


@dataclass
class Synced:
    """For each path of the work folder: the signature of the file here, and its version in the bucket, when both were
    last equal."""

    bucket: MirroredStore
    folder: str
    known: dict[str, tuple[Signature, str]] = field(default_factory=dict)

    @staticmethod
    def load(bucket: MirroredStore, folder: str) -> "Synced":
        found = Synced(bucket, folder)
        try:
            document = json.loads(found.file.read_text("utf-8"))
            found.known = {path: ((one[0][0], one[0][1], one[0][2]), one[1]) for path, one in document.items()}
        except (FileNotFoundError, ValueError, AttributeError, TypeError, LookupError):
            found.known = {}  # damaged: all files are compared anew
        return found

    def save(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.file, volatile=True) as draft:
            draft.write_text(json.dumps(self.known), "utf-8")

    @property
    def file(self) -> Path:
        home = self.bucket.local / self.folder
        return home.with_name(f".synced-{home.name}.json")

    @property
    def home(self) -> Path:
        return self.bucket.local / self.folder

    def current(self, path: str) -> bool:
        """Whether the bucket has the file with the content that it has here."""
        return path in self.known and self.known[path][0] == signature(self.home / path)

    @staticmethod
    def adopt(bucket: MirroredStore, old: str, new: str, found: Mapping[str, Entry]) -> None:
        """Link what this machine has of the attempt in ``old`` into ``new``, so that it is not downloaded again.
        ``found`` are the files of ``old`` in the bucket."""
        before, after = Synced.load(bucket, old), Synced(bucket, new)
        copies = bucket.walk(new)
        for path in local_files(before.home):
            target = after.home / path
            target.parent.mkdir(parents=True, exist_ok=True)
            there = found.get(f"{old}/{path}")
            if there is None:
                link(before.home / path, target)  # finished here, but not uploaded before the attempt was interrupted
            elif before.current(path) and before.known[path][1] == there.version and f"{new}/{path}" in copies:
                link(before.home / path, target)
                sign = signature(target)
                if sign is not None:
                    after.known[path] = (sign, copies[f"{new}/{path}"].version)
        after.save()
        before.file.unlink(missing_ok=True)


@dataclass(frozen=True)
class BucketMirror:
    """Implements the cluster's ``Mirror`` for one attempt. ``inputs``: folder of an artifact -> its files."""

    bucket: MirroredStore
    out: str
    inputs: Mapping[str, Files]

    @property
    def here(self) -> str:
        """A random name of this machine's copy, chosen at first use."""
        file = self.bucket.local / ".here"
        with self.bucket.cache.locked("here"):
            if not file.exists() or not file.read_text("utf-8"):
                with replacing(file) as draft:
                    draft.write_text(uuid.uuid4().hex, "utf-8")
        return file.read_text("utf-8")

    def pull(self) -> None:
        self._remove_ended(time.time())
        user = f"{self.out} {os.getpid()}"
        for folder, files in self.inputs.items():
            if not self.bucket.cache.holds(user, folder):  # an earlier pull has fetched what is held
                self.bucket.fetch(folder, files, user)
        with self._exclusive():
            synced = Synced.load(self.bucket, self.out)
            synced.home.mkdir(parents=True, exist_ok=True)
            there = {name[len(self.out) + 1 :]: entry for name, entry in self.bucket.walk(self.out).items()}
            there.pop(LEASE, None)
            for path, entry in there.items():
                if path not in synced.known or synced.known[path][1] != entry.version:
                    self._download(path, entry, synced)
            for path in [path for path in synced.known if path not in there]:
                if synced.current(path):  # another machine has removed it
                    (synced.home / path).unlink(missing_ok=True)
                del synced.known[path]
            synced.save()

    def push(self) -> None:
        with self._exclusive():
            synced = Synced.load(self.bucket, self.out)
            before = dict(synced.known)
            for path in local_files(synced.home):
                if not synced.current(path):
                    self._upload(path, synced)
            for path in [path for path in synced.known if not (synced.home / path).exists()]:
                self.bucket.remove(f"{self.out}/{path}")
                del synced.known[path]
            if synced.known != before:
                synced.save()

    def close(self) -> None:
        self.bucket.release(f"{self.out} {os.getpid()}")

    def _remove_ended(self, now: float) -> None:
        """Remove this machine's files of attempts that have ended: those without a lease in the bucket."""
        for known in (self.bucket.local / WORK).glob("*/.synced-*.json"):
            home = known.with_name(known.name.removeprefix(".synced-").removesuffix(".json"))
            folder = home.relative_to(self.bucket.local).as_posix()
            with contextlib.suppress(FileNotFoundError):
                if now - known.stat().st_mtime > OLD and self.bucket.read(f"{folder}/{LEASE}") is None:
                    shutil.rmtree(home, ignore_errors=True)
                    known.unlink()

    def _download(self, path: str, entry: Entry, synced: Synced) -> None:
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

    def _upload(self, path: str, synced: Synced) -> None:
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

    def _exclusive(self) -> AbstractContextManager[None]:
        return self.bucket.cache.locked(self.out.replace("/", "-"))


class InputMirror:
    """Implements the cluster's ``Mirror`` for work that reads artifacts of a remote storage and writes no files.
    ``inputs``: folder of an artifact -> its files."""

    def __init__(self, storage: Storage, inputs: Mapping[str, Files]) -> None:
        self._storage, self._inputs = storage, inputs
        self._pulled = False

    def __reduce__(self) -> tuple[type["InputMirror"], tuple[Storage, Mapping[str, Files]]]:
        return InputMirror, (self._storage, self._inputs)  # another process has pulled nothing yet

    @property
    def here(self) -> str:
        """The machine, and its local copy of the storage."""
        return f"{socket.gethostname()}:{self._storage.local}"

    def pull(self) -> None:
        """Fetch the inputs, once."""
        if not self._pulled:
            for folder, files in self._inputs.items():
                self._storage.fetch(folder, files, self._user)
            self._pulled = True

    def push(self) -> None:
        """Does nothing: nothing is written."""

    def close(self) -> None:
        self._storage.release(self._user)
        self._pulled = False

    @property
    def _user(self) -> str:
        return f"inputs {os.getpid()} {id(self)}"


def local_files(home: Path) -> Iterator[str]:
    """The paths of a work folder's complete files: neither leases nor drafts."""
    for folder, folders, files in os.walk(home):
        folders.sort()
        for name in sorted(files):
            if name != LEASE and not name.endswith(".tmp"):
                yield (Path(folder) / name).relative_to(home).as_posix()


def signature(path: Path) -> Signature | None:
    """The signature of a file; None where it does not exist."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ino
