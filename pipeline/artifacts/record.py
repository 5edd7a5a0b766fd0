"""Artifacts: the files that a stage wrote, and the record that describes them. Without a record there is no artifact.

Layout of a storage::

    <stage>/<key>/record.json            written once, if absent
    <stage>/<key>/<attempt>/...          the files that the record names
    .work/<key>/<attempt>/...            an attempt that is not committed (see ``attempts``)
    .named/<recipe>/<node>.key           the key that a node of a recipe had in its last run

A record is written only if there is none: of two processes that commit the same key one wins, and the other uses the
winner's artifact.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pipeline.errors import RequestError
from pipeline.graph.fingerprint import Json, differences
from pipeline.graph.nodes import Node
from pipeline.storage import Files, Storage
from pipeline.storage.port import LEASE, WORK
from stages.atomic import draft_of
from stages.checksum import file_sha256

FORMAT = 1
KEY = re.compile("[0-9a-f]{64}")
RECORD = "record.json"
NAMED = ".named"
SCRATCH = "scratch"
"""The folder of an attempt whose files are not published."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of an artifact: path relative to the artifact's folder, size in bytes, sha256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """An artifact: its spec and inputs, its files, and how it was built. ``facts`` are figures that the stage returned.

    ``places`` maps each input to its path, relative to the storage where it is inside it, else absolute. ``contents``
    maps it to a digest of its files: an input that is rebuilt keeps its key, but may come out with other bits.
    ``priors`` are the keys of earlier artifacts from which rows may have been copied. ``run`` is the run that committed
    the artifact; its logs have that name. ``snapshot`` is the digest of the submitted code and recipe, '' for a run
    that was not submitted. ``seconds`` is the duration of the build. None of these is part of the key.
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
        """The folder in the storage that holds its files."""
        return f"{key_folder(self.stage, self.key)}/{self.attempt}"

    def files_below(self, part: str = "") -> Files:
        """Path -> (bytes, sha256) of its files in folder ``part``; of all files if that is ''."""
        start = f"{part}/" if part else ""
        return {file.path: (file.size, file.sha256) for file in self.files if file.path.startswith(start)}

    @property
    def rows(self) -> int:
        """The number of rows that the artifact holds or was computed from, over all splits."""
        rows = self.facts.get("rows", 0)
        return sum(rows.values()) if isinstance(rows, Mapping) else int(rows)


def key_folder(stage: str, key: str) -> str:
    """The folder of a storage that holds a key's record and committed files."""
    return f"{stage}/{key}"


def record_name(stage: str, key: str) -> str:
    """The name of a key's record in a storage."""
    return f"{key_folder(stage, key)}/{RECORD}"


def artifact_path(storage: Storage, record: Record) -> Path:
    """The directory on this machine for the artifact's files, whether or not they have been downloaded."""
    return storage.local / record.folder


def fetch_artifact(storage: Storage, record: Record, user: str = "") -> Path:
    """The directory on this machine with all of the artifact's files, downloaded if the storage is remote. ``user``
    keeps them in the cache until it lets go of them."""
    return storage.fetch(record.folder, record.files_below(), user)


def read_record(storage: Storage, name: str) -> Record | None:
    """The record under ``name``; None if there is none. Raises RequestError if it is damaged or of a newer format."""
    text = storage.read(name)
    return None if text is None else parse_record(text, storage.where(name))


def parse_record(text: str, where: str) -> Record:
    """The record in JSON ``text``; ``where`` names it in errors. Raises RequestError if it is damaged or of a newer
    format."""
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
    """The stages of which a storage has artifacts, including stages that this version does not know."""
    return [name for name in storage.entries("") if not name.startswith(".")]


def record_texts(storage: Storage, *stages: str) -> dict[str, str]:
    """Name -> text of every record of these stages, or of all stages. The texts may be damaged."""
    known = stages or stages_of(storage)
    names = [record_name(stage, key) for stage in known for key in storage.entries(stage) if KEY.fullmatch(key)]
    return dict(storage.read_many(names))


def find(storage: Storage, stage: str, key: str) -> Record | None:
    """The record of a key's artifact if all its files exist with the recorded sizes, else None. Raises RequestError."""
    record = read_record(storage, record_name(stage, key))
    if record is None or missing(storage, record):
        return None
    return record


def find_for(storage: Storage, node: Node) -> Record | None:
    """The committed artifact of a node: under its key, with all its files, and of a spec that serves the node's."""
    record = find(storage, node.spec.stage, node.key)
    return None if record is None or differences(record.spec, node.spec) else record


def missing(storage: Storage, record: Record) -> str:
    """The path of the first of the record's files that is missing or has another size; '' if there is none."""
    return storage.lacking(record.folder, [(file.path, file.size) for file in record.files])


def content_digest(storage: Storage, path: Path) -> str:
    """A digest over the files at a path inside an artifact, from its record; '' for a path that is in no artifact."""
    if not path.is_relative_to(storage.local) or len(path.relative_to(storage.local).parts) < 3:
        return ""
    stage, key, attempt, *part = path.relative_to(storage.local).parts
    record = read_record(storage, record_name(stage, key))
    if record is None or record.attempt != attempt:
        return ""
    lines = sorted(f"{name} {digest}" for name, (_, digest) in record.files_below("/".join(part)).items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def published(out: Path) -> Iterator[Path]:
    """The files of an attempt's directory that become the artifact: all but scratch, the lease and drafts."""
    for folder, names, files in os.walk(out):
        names[:] = sorted(name for name in names if not (Path(folder) == out and name == SCRATCH))
        yield from (Path(folder) / name for name in sorted(files) if name != LEASE and not name.endswith(".tmp"))


def describe(out: Path) -> tuple[File, ...]:
    """Path, size and checksum of every file of an attempt that is to be published."""
    return tuple(
        File(path.relative_to(out).as_posix(), path.stat().st_size, file_sha256(path)) for path in published(out)
    )


def commit(storage: Storage, out: Path, record: Record) -> Record:
    """Publish the files of ``out`` and write the record if there is none. Returns the record in the storage, which is
    another's if another process was first; then the own files are removed."""
    give_usual_modes(out, record.files_below())
    storage.publish(out, record.folder, record.files_below())
    name = record_name(record.stage, record.key)
    if not storage.create(name, json.dumps(asdict(record), indent=1) + "\n"):
        storage.drop(record.folder)
    written = read_record(storage, name)
    assert written is not None
    return written


def give_usual_modes(out: Path, files: Iterable[str]) -> None:
    """Give these files of ``out`` the permissions of any new file there, by the umask: 0644 in most places. Some
    libraries (safetensors) leave files that only their owner may read. A file of another user is left as it is."""
    probe = draft_of(out / "mode")  # a process can read its umask only by changing it
    probe.touch()
    usual = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for path in (out / name for name in files):
        if stat.S_IMODE(path.stat().st_mode) != usual:
            with suppress(PermissionError):
                path.chmod(usual)


def withdraw(storage: Storage, stage: str, key: str) -> None:
    """Remove the record, so that the artifact is built again. Its files are removed after the next commit."""
    storage.remove(record_name(stage, key))


def sweep(storage: Storage, record: Record) -> None:
    """Remove all other attempts at this key, finished or not."""
    home = key_folder(record.stage, record.key)
    for entry in storage.entries(home):
        if entry not in (record.attempt, RECORD):
            storage.drop(f"{home}/{entry}")
    storage.drop(f"{WORK}/{record.key}")
