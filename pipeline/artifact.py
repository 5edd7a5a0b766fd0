"""Artifacts: what a stage made, and the record that says so. No record, no artifact.

Layout of a storage directory::

    <stage>/<key>/record.json            written once, if absent
    <stage>/<key>/<attempt>/...          the files that the record names
    .work/<key>/<attempt>/...            an attempt that is not committed (see ``lease``)

A record is written by a hard link, which fails where one exists: of two committers one wins, and the
other takes the winner's artifact. Nothing relies on renaming directories.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pipeline.errors import RequestError
from pipeline.fingerprint import Json

FORMAT = 1
SCRATCH = "scratch"
LEASE = ".lease.json"


@dataclass(frozen=True, slots=True)
class File:
    """A file of an artifact: path below the attempt, bytes, sha256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """What was made, of what, by what, where and when. ``facts`` are the stage's own figures.

    ``places`` says where each input lay: a path below the storage, or an absolute one. ``contents`` is what lay
    there: a key says by what rule an input is made, and whoever makes it anew may end with other bits. ``priors``
    are the keys of earlier stores from which rows may have been carried over. ``snapshot`` is the digest of what was
    submitted to a cluster, code and recipe; '' for a run that was not. None of these is identity.
    """

    stage: str
    version: int
    key: str
    name: str
    recipe: str
    spec: Json
    inputs: Mapping[str, str]
    attempt: str
    files: tuple[File, ...]
    facts: Mapping[str, Any]
    code: str
    workers: int
    threads: int
    seconds: float
    committed: str
    hardware: Mapping[str, Json]
    places: Mapping[str, str] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)
    priors: tuple[str, ...] = ()
    snapshot: str = ""
    format: int = FORMAT

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def rows(self) -> int:
        """The rows that the record speaks of, over all splits."""
        rows = self.facts.get("rows", 0)
        return sum(rows.values()) if isinstance(rows, Mapping) else int(rows)


def record_path(storage: Path, stage: str, key: str) -> Path:
    return storage / stage / key / "record.json"


def artifact_path(storage: Path, record: Record) -> Path:
    """The directory that holds the artifact's files."""
    return storage / record.stage / record.key / record.attempt


def read_record(path: Path) -> Record | None:
    """The record at ``path``; None if there is none. One from a newer version is refused."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _damaged(path, error) from error
    try:
        if document["format"] > FORMAT:
            raise RequestError(
                f"{path}: record format {document['format']} is newer than {FORMAT}, the newest that this version "
                "reads; upgrade Stillhouse"
            )
        document["files"] = tuple(File(**file) for file in document["files"])
        document["priors"] = tuple(document.get("priors", ()))
        return Record(**{name: document[name] for name in (own.name for own in fields(Record)) if name in document})
    except (KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> RequestError:
    return RequestError(f"{path}: this record is damaged ({error}); remove the file to build it again")


def find(storage: Path, stage: str, key: str) -> Record | None:
    """The committed artifact with this key, if its files are there in the recorded sizes."""
    record = read_record(record_path(storage, stage, key))
    if record is None or missing(storage, record):
        return None
    return record


def missing(storage: Path, record: Record) -> str:
    """The first of the record's files that is absent or of another size; '' when all is there."""
    root = os.fspath(artifact_path(storage, record))
    for file in record.files:
        try:
            if os.stat(f"{root}/{file.path}").st_size != file.size:
                return file.path
        except FileNotFoundError:
            return file.path
    return ""


def content(storage: Path, path: Path) -> str:
    """The digest of what lies at a path within an artifact, by its record; '' for a path that is in none."""
    if not path.is_relative_to(storage) or len(path.relative_to(storage).parts) < 3:
        return ""
    stage, key, attempt, *part = path.relative_to(storage).parts
    record = read_record(record_path(storage, stage, key))
    if record is None or record.attempt != attempt:
        return ""
    below = "".join(f"{name}/" for name in part)
    told = sorted(f"{file.path} {file.sha256}" for file in record.files if file.path.startswith(below))
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def published(out: Path) -> Iterator[Path]:
    """The files of a work directory that become the artifact: all but scratch, leases and temporaries."""
    for folder, names, files in os.walk(out):
        names[:] = sorted(name for name in names if not (Path(folder) == out and name == SCRATCH))
        yield from (Path(folder) / name for name in sorted(files) if name != LEASE and not name.endswith(".tmp"))


def describe(out: Path) -> tuple[File, ...]:
    """Size and checksum of every file that is to be published."""
    return tuple(File(path.relative_to(out).as_posix(), path.stat().st_size, checksum(path)) for path in published(out))


def checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def commit(storage: Path, out: Path, record: Record) -> Record:
    """Publish the files of ``out`` and write the record if there is none; return the record that stands."""
    home = storage / record.stage / record.key
    for file in record.files:
        target = home / record.attempt / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        _sync(out / file.path)
        os.link(out / file.path, target)
    path = home / "record.json"
    if not write_if_absent(path, json.dumps(asdict(record), indent=1) + "\n"):
        shutil.rmtree(home / record.attempt)
    standing = read_record(path)
    assert standing is not None
    return standing


def write_if_absent(path: Path, text: str) -> bool:
    """Write ``text`` to ``path`` unless it exists, whole or not at all. Whether this call wrote it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    draft.write_text(text, "utf-8")
    _sync(draft)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def withdraw(storage: Path, stage: str, key: str) -> None:
    """Take the record away: the artifact is no more, and will be built again. Its files go with the next commit."""
    record_path(storage, stage, key).unlink(missing_ok=True)


def sweep(storage: Path, record: Record) -> None:
    """Remove what attempts at this key left beside the committed one."""
    home = storage / record.stage / record.key
    for entry in home.iterdir():
        if entry.is_dir() and entry.name != record.attempt:
            shutil.rmtree(entry, ignore_errors=True)
    shutil.rmtree(storage / ".work" / record.key, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
