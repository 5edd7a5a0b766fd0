"""Artifacts: what a stage made, and the record that says so. No record, no artifact.

Layout of a storage::

    <stage>/<key>/record.json            written once, if absent
    <stage>/<key>/<attempt>/...          the files that the record names
    .work/<key>/<attempt>/...            an attempt that is not committed (see ``lease``)

A record is written if there is none: of two committers one wins, and the other takes the winner's artifact.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pipeline.errors import RequestError
from pipeline.graph.fingerprint import Json, differences
from pipeline.graph.nodes import Node
from pipeline.storage import Files, Storage
from pipeline.storage.checksum import checksum
from pipeline.storage.port import LEASE, WORK

FORMAT = 1
KEY = re.compile("[0-9a-f]{64}")
RECORD = "record.json"
SCRATCH = "scratch"


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
    are the keys of earlier stores from which rows may have been carried over. ``run`` names the run that committed it,
    and its logs. ``snapshot`` is the digest of what was submitted to a cluster, code and recipe; '' for a run that was
    not. None of these is identity.
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
    run: str = ""
    snapshot: str = ""
    format: int = FORMAT

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def folder(self) -> str:
        """Where in its storage its files lie."""
        return f"{home_of(self.stage, self.key)}/{self.attempt}"

    def below(self, part: str = "") -> Files:
        """Those of its files that lie below ``part``, with their bytes and checksums."""
        start = f"{part}/" if part else ""
        return {file.path: (file.size, file.sha256) for file in self.files if file.path.startswith(start)}

    @property
    def rows(self) -> int:
        """The rows that the record speaks of, over all splits."""
        rows = self.facts.get("rows", 0)
        return sum(rows.values()) if isinstance(rows, Mapping) else int(rows)


def home_of(stage: str, key: str) -> str:
    """The folder of a storage that holds all there is of an artifact."""
    return f"{stage}/{key}"


def record_name(stage: str, key: str) -> str:
    return f"{home_of(stage, key)}/{RECORD}"


def artifact_path(storage: Storage, record: Record) -> Path:
    """The directory of this machine that holds the artifact's files, or would if they were fetched."""
    return storage.local / record.folder


def fetched(storage: Storage, record: Record, user: str = "") -> Path:
    """The directory, with all of the artifact's files in it."""
    return storage.fetch(record.folder, record.below(), user)


def read_record(storage: Storage, name: str) -> Record | None:
    """The record under ``name``; None if there is none. One from a newer version is refused."""
    text = storage.read(name)
    return None if text is None else parsed(text, storage.where(name))


def parsed(text: str, where: str) -> Record:
    """The record that ``text`` is. Raises ``RequestError``."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise _damaged(where, error) from error
    try:
        if document["format"] > FORMAT:
            raise RequestError(
                f"{where}: record format {document['format']} is newer than {FORMAT}, the newest that this version "
                "reads; upgrade Stillhouse"
            )
        document["files"] = tuple(File(**file) for file in document["files"])
        document["priors"] = tuple(document.get("priors", ()))
        return Record(**{name: document[name] for name in (own.name for own in fields(Record)) if name in document})
    except (KeyError, TypeError) as error:
        raise _damaged(where, error) from error


def _damaged(where: str, error: Exception) -> RequestError:
    return RequestError(f"{where}: this record is damaged ({error}); remove the file to build it again")


def stages_of(storage: Storage) -> list[str]:
    """The stages of which the storage has artifacts, known to this version or not."""
    return [name for name in storage.entries("") if not name.startswith(".")]


def recorded(storage: Storage, *stages: str) -> dict[str, str]:
    """The text of every record of these stages, or of all, under its name. Whether it parses is another matter."""
    known = stages or stages_of(storage)
    names = [record_name(stage, key) for stage in known for key in storage.entries(stage) if KEY.fullmatch(key)]
    return dict(storage.read_many(names))


def find(storage: Storage, stage: str, key: str) -> Record | None:
    """The committed artifact with this key, if its files are there in the recorded sizes."""
    record = read_record(storage, record_name(stage, key))
    if record is None or missing(storage, record):
        return None
    return record


def find_for(storage: Storage, node: Node) -> Record | None:
    """The committed artifact of a node: under its key, with all its files, and of a spec that serves the node's."""
    record = find(storage, node.spec.stage, node.key)
    return None if record is None or differences(record.spec, node.spec) else record


def missing(storage: Storage, record: Record) -> str:
    """The first of the record's files that is absent or of another size; '' when all is there."""
    return storage.lacking(record.folder, [(file.path, file.size) for file in record.files])


def content(storage: Storage, path: Path) -> str:
    """The digest of what lies at a path within an artifact, by its record; '' for a path that is in none."""
    if not path.is_relative_to(storage.local) or len(path.relative_to(storage.local).parts) < 3:
        return ""
    stage, key, attempt, *part = path.relative_to(storage.local).parts
    record = read_record(storage, record_name(stage, key))
    if record is None or record.attempt != attempt:
        return ""
    told = sorted(f"{name} {digest}" for name, (_, digest) in record.below("/".join(part)).items())
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def published(out: Path) -> Iterator[Path]:
    """The files of a work directory that become the artifact: all but scratch, leases and temporaries."""
    for folder, names, files in os.walk(out):
        names[:] = sorted(name for name in names if not (Path(folder) == out and name == SCRATCH))
        yield from (Path(folder) / name for name in sorted(files) if name != LEASE and not name.endswith(".tmp"))


def describe(out: Path) -> tuple[File, ...]:
    """Size and checksum of every file that is to be published."""
    return tuple(File(path.relative_to(out).as_posix(), path.stat().st_size, checksum(path)) for path in published(out))


def commit(storage: Storage, out: Path, record: Record) -> Record:
    """Publish the files of ``out`` and write the record if there is none; return the record that stands."""
    storage.publish(out, record.folder, record.below())
    name = record_name(record.stage, record.key)
    if not storage.create(name, json.dumps(asdict(record), indent=1) + "\n"):
        storage.drop(record.folder)
    standing = read_record(storage, name)
    assert standing is not None
    return standing


def withdraw(storage: Storage, stage: str, key: str) -> None:
    """Take the record away: the artifact is no more, and will be built again. Its files go with the next commit."""
    storage.remove(record_name(stage, key))


def sweep(storage: Storage, record: Record) -> None:
    """Remove what attempts at this key left beside the committed one."""
    home = home_of(record.stage, record.key)
    for entry in storage.entries(home):
        if entry not in (record.attempt, RECORD):
            storage.drop(f"{home}/{entry}")
    storage.drop(f"{WORK}/{record.key}")


# --- why ------------------------------------------------------------------------------------------


NAMED = ".named"
