"""Artifacts: the files that a stage wrote, and the record that describes them. Without a record there is no artifact.

Layout of a storage::

    <stage>/<key>/record.json            written once, if absent
    <stage>/<key>/<attempt>/...          the files that the record names
    .work/<key>/<attempt>/...            an attempt that is not committed (see ``attempts``)
    .named/<recipe>/<node>.key           the key that a node of a recipe had in its last run
    models/<recipe>/<task>/<model>       a link to a model's folder (see ``model_names``)

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
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.errors import RequestError
from pipeline.graph.fingerprint import Json, differences
from pipeline.graph.nodes import Node
from pipeline.storage import Files, Storage, UnreadableDocument
from pipeline.storage.port import LEASE, WORK
from stages.atomic import draft_of
from stages.checksum import file_sha256, kept_checksums

FORMAT = 1
"""The format in which records are written. Records of this format alone are read."""
KEY = re.compile("[0-9a-f]{64}")
RECORD = "record.json"
NAMED = ".named"
MODELS = "models"
"""The folder of a storage with the names of models (see ``model_names``). No stage has this name."""
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
    that was not submitted. ``seconds`` is the duration of the build by the clock, without the time in
    which it was paused because more urgent stages had all of its workers. ``full_seconds`` is about how long it would
    have taken if it had had all of its workers all the time; 0.0 in records that do not tell it. None of these is part
    of the key.
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
    full_seconds: float = 0.0
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


class DamagedRecord(RequestError):
    """A record that cannot be read. Its artifact counts as absent: it is built again, and the record replaced.
    ``reason`` says in one line what is wrong with it."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(
            f"{where}: this record is damaged ({reason}); run its recipe to build it again, or remove the file"
        )
        self.reason = reason


def read_record(storage: Storage, name: str) -> Record | None:
    """The record under ``name``; None if there is none. Raises DamagedRecord, also for the record of another artifact,
    and RequestError for a record of a newer format."""
    try:
        text = storage.read(name)
    except UnreadableDocument as error:
        raise DamagedRecord(storage.where(name), f"it cannot be read: {error.strerror}") from error
    if text is None:
        return None
    return _named_record(storage, name, text)


def _named_record(storage: Storage, name: str, text: str) -> Record:
    """The record with JSON ``text`` that the storage has under ``name``. Raises as ``read_record`` does."""
    where = storage.where(name)
    record = parse_record(text, where)
    if record_name(record.stage, record.key) != name:
        raise DamagedRecord(where, f"it is the record of {record.stage} {record.key[:12]}")
    return record


def parse_record(text: str, where: str) -> Record:
    """The record in JSON ``text``; ``where`` names it in errors. Raises DamagedRecord, and RequestError for a record of
    a newer format."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedRecord(where, f"no whole JSON: {error}" if text.strip("\0 \n") else "it is empty") from error
    try:
        if not isinstance(document, dict):
            raise TypeError(f"it holds {document!r:.20}, not the fields of a record")
        if _typed(document, "format", int) > FORMAT:
            raise RequestError(
                f"{where}: record format {document['format']} is newer than {FORMAT}, the newest that this version "
                "reads; upgrade Stillhouse"
            )
        return _record_of(document)
    except RequestError:
        raise
    except (ValueError, TypeError) as error:
        raise DamagedRecord(where, str(error).splitlines()[0]) from error


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("stage", "key", "name", "recipe", "attempt", "code", "committed", "run", "snapshot"), str),
    **dict.fromkeys(("version", "workers", "threads", "format"), int),
    **dict.fromkeys(("spec", "inputs", "facts", "hardware", "places", "contents"), dict),
    **dict.fromkeys(("seconds", "full_seconds"), (int, float)),
    "files": list,
    "priors": list,
}
"""The JSON type of each field of a record."""


def _record_of(document: dict[str, Any]) -> Record:
    """The record with these fields; others are ignored. Raises TypeError or ValueError for one that is missing or not
    of its type."""
    known = {name: _typed(document, name, kind) for name, kind in _TYPES.items() if name in document}
    files = [
        File(_typed(file, "path", str), _typed(file, "size", int), _typed(file, "sha256", str))
        for file in known.get("files", ())
    ]
    for name in ("inputs", "places", "contents"):
        for key in known.get(name, ()):
            _typed(known[name], key, str)
    for own in fields(Record):
        if own.default is MISSING and own.default_factory is MISSING:
            _typed(document, own.name, _TYPES[own.name])
    datetime.fromisoformat(known["committed"])
    record = Record(**{**known, "files": tuple(files), "priors": tuple(map(str, known.get("priors", ())))})
    int(record.rows)  # raises for counts that are no numbers
    return record


def _typed(document: Any, name: str, kind: type | tuple[type, ...]) -> Any:
    """The field ``name``. Raises TypeError where it is missing, or of another type."""
    if not isinstance(document, dict) or name not in document:
        raise TypeError(f"it has no field {name}")
    if not isinstance(document[name], kind):
        raise TypeError(f"its field {name} is {document[name]!r:.20}")
    return document[name]


def stages_of(storage: Storage) -> list[str]:
    """The stages of which a storage has artifacts, including stages that this version does not know."""
    return [name for name in storage.entries("") if not name.startswith(".") and name != MODELS]


def record_texts(storage: Storage, *stages: str) -> dict[str, str]:
    """Name -> text of every record of these stages, or of all stages. The texts may be damaged."""
    known = stages or stages_of(storage)
    names = [record_name(stage, key) for stage in known for key in storage.entries(stage) if KEY.fullmatch(key)]
    return dict(storage.read_many(names))


def parsed_records(storage: Storage, *stages: str) -> dict[str, Record | RequestError]:
    """Name -> every record of these stages, or of all stages; for one that is damaged, that is the record of another
    artifact, or that is of a newer format, the error that ``read_record`` raises for it. Without those that are not
    even text (see ``UnreadableDocument``)."""
    found: dict[str, Record | RequestError] = {}
    for name, text in record_texts(storage, *stages).items():
        try:
            found[name] = _named_record(storage, name, text)
        except RequestError as error:
            found[name] = error
    return found


def sound_record_of(key: str, storage: Storage) -> Record | None:
    """The record of a key, of whichever stage; None if there is none, or a damaged one. Raises RequestError for one of
    a newer format."""
    found = (sound_record(storage, stage, key) for stage in stages_of(storage))
    return next((record for record in found if record is not None), None)


def sound_record(storage: Storage, stage: str, key: str) -> Record | None:
    """The record of a key; None if there is none, or a damaged one. Raises RequestError for one of a newer format."""
    try:
        return read_record(storage, record_name(stage, key))
    except DamagedRecord:
        return None


def find(storage: Storage, stage: str, key: str) -> Record | None:
    """The record of a key's artifact if all its files exist with the recorded sizes, else None. Raises RequestError."""
    record = sound_record(storage, stage, key)
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
    record = sound_record(storage, stage, key)
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
    """Path, size and checksum of every file of an attempt that is to be published. A file is read for its checksum,
    unless the stage has kept it."""
    names, known = [path.relative_to(out).as_posix() for path in published(out)], kept_checksums(out)
    return tuple(File(name, (out / name).stat().st_size, known.get(name) or file_sha256(out / name)) for name in names)


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
