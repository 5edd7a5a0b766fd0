"""Find what a storage holds that none of the given recipes needs, and why. ``stillhouse gc`` removes it.

Everything under one key is removed or kept together: the record and its files, unfinished attempts, the note of a
failure, and the names that point to the key. Of a key that a recipe needs, only what is left beside its artifact is
found. A key that a process is working on is left out, and so are all artifacts from which its own is built.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from pipeline.artifacts.attempts import attempt_name, attempts_folder, highest_attempt, leased
from pipeline.artifacts.failure import FAILED
from pipeline.artifacts.record import KEY, NAMED, RECORD, Record, missing, parse_record, record_name, record_texts
from pipeline.errors import RequestError
from pipeline.graph.nodes import Graph, artifact_key
from pipeline.storage import Entry, Storage
from pipeline.storage.port import WORK

Kind = Literal["artifact", "withdrawn", "attempt", "left over", "note", "unreadable"]
UNNEEDED: Mapping[Kind, str] = {
    "artifact": "no recipe named here needs it",
    "withdrawn": "it has no record, and no recipe named here needs it",
    "attempt": "unfinished, no run is working on it, and no recipe named here needs it",
    "note": "the note of a failure, and no recipe named here needs its node",
}


@dataclass(frozen=True, slots=True)
class UnusedArtifact:
    """What is removed together. ``attempt`` is the one in the record, '' without a record. The record is removed
    first, then ``paths``, then ``attempts`` (the key's folder of unfinished ones). ``bytes`` is the space that becomes
    free: files with links that remain do not count. ``age`` is in seconds."""

    kind: Kind
    key: str
    stage: str
    name: str
    why: str
    paths: tuple[str, ...] = ()
    attempts: str = ""
    attempt: str = ""
    bytes: int = 0
    age: float = 0.0

    @property
    def removable(self) -> bool:
        """False for a record that this version cannot read: another version may."""
        return self.kind != "unreadable"


@dataclass
class KeyContents:
    """Everything that a storage holds under one key. ``unreadable`` says why its record cannot be read, '' if it can;
    ``pointers`` are the names in ``.named`` that point to it."""

    key: str
    stage: str = ""
    record: Record | None = None
    unreadable: str = ""
    folders: list[str] = field(default_factory=list)
    attempts: str = ""
    notes: list[str] = field(default_factory=list)
    pointers: list[str] = field(default_factory=list)


Below = Mapping[str, Sequence[Entry]]
"""Name of a file or folder -> the files in it."""


def find_unused(storage: Storage, graphs: Iterable[Graph], now: float, older_than: float = 0.0) -> list[UnusedArtifact]:
    """What none of the graphs needs and is at least ``older_than`` seconds old, the largest first. ``now`` is in
    seconds since 1970.

    Raises RequestError if a run has just begun an attempt, so that it is not known yet which artifacts it uses.
    """
    needed = {node.key for graph in graphs for node in graph.nodes}
    files = storage.walk()
    by_key = contents_by_key(storage, files)
    used = _used_keys(storage, by_key, now)
    below = _files_by_folder(files)
    found = [
        _unused_part(storage, contents, contents.key in needed)
        for contents in by_key.values()
        if contents.key not in used
    ]
    unused = [replace(one, age=_age(one, below, by_key[one.key].record, now)) for one in found if one is not None]
    return sorted(_with_bytes(below, [one for one in unused if one.age >= older_than]), key=lambda one: -one.bytes)


# --- what the storage holds -----------------------------------------------------------------------


def contents_by_key(storage: Storage, files: Iterable[str]) -> dict[str, KeyContents]:
    """Key -> everything in the storage that belongs to it. ``files`` are the names of all files."""
    by_key: dict[str, KeyContents] = {}
    for name in files:
        top, _, rest = name.partition("/")
        key, _, below = rest.partition("/")
        if top == WORK and KEY.fullmatch(key):
            by_key.setdefault(key, KeyContents(key)).attempts = attempts_folder(key)
        elif top == FAILED and KEY.fullmatch(key):
            by_key.setdefault(key, KeyContents(key)).notes.append(name)
        elif top == NAMED and name.endswith(".key"):
            pointed = (storage.read(name) or "").strip()
            by_key.setdefault(pointed, KeyContents(pointed)).pointers.append(name)
        elif not top.startswith(".") and KEY.fullmatch(key) and below:  # of every stage, known to this version or not
            contents, folder = by_key.setdefault(key, KeyContents(key)), f"{top}/{key}/{below.partition('/')[0]}"
            contents.stage = top
            if below != RECORD and folder not in contents.folders:
                contents.folders.append(folder)
    for name, text in record_texts(storage).items():
        contents = by_key.setdefault(name.split("/")[1], KeyContents(name.split("/")[1], name.split("/")[0]))
        try:
            contents.record = parse_record(text, storage.where(name))
        except RequestError as error:
            # Listed with the error and never removed: the version that wrote it may still read it.
            contents.unreadable = str(error)
    return by_key


# --- what runs are using --------------------------------------------------------------------------


def in_use(storage: Storage, now: float, besides: str = "") -> dict[str, frozenset[str]]:
    """The key of every attempt with a live lease -> the keys of its inputs. The key ``besides`` is left out. Raises
    RequestError."""
    keys = [key for key in storage.entries(WORK) if KEY.fullmatch(key) and key != besides]
    return {key: _sources(storage, key) for key in keys if leased(storage, key, now)}


def _sources(storage: Storage, key: str) -> frozenset[str]:
    """The keys of the inputs of a key's latest attempt, from its lineage.json. Raises RequestError if there is none."""
    attempt = f"{attempts_folder(key)}/{attempt_name(highest_attempt(storage, attempts_folder(key)))}"
    lineage = storage.read(f"{attempt}/lineage.json")
    if lineage is None:
        where = storage.where(attempt)
        raise RequestError(f"{where}: a run has just begun there, and it is not known yet what it needs; try again")
    return frozenset(KEY.findall(lineage)) - {key}


def _used_keys(storage: Storage, by_key: Mapping[str, KeyContents], now: float) -> set[str]:
    """The keys that runs are working on, and those of all artifacts from which these are built, directly or not."""
    busy = in_use(storage, now)
    used, ahead = set(busy), [key for inputs in busy.values() for key in inputs]
    while ahead:
        key = ahead.pop()
        record = by_key[key].record if key in by_key else None
        if key not in used and record is not None:
            ahead.extend(map(artifact_key, record.inputs.values()))
        used.add(key)
    return used


# --- what can be removed --------------------------------------------------------------------------


def _unused_part(storage: Storage, contents: KeyContents, needed: bool) -> UnusedArtifact | None:
    """What can be removed of a key, without size and age; None if nothing."""
    name = _name(storage, contents)
    attempt = contents.record.attempt if contents.record else ""
    if contents.unreadable:
        why = contents.unreadable.removeprefix(f"{storage.where(record_name(contents.stage, contents.key))}: ")
        return None if needed else UnusedArtifact("unreadable", contents.key, contents.stage, name, why)
    if not needed:
        kind: Kind = (
            "artifact"
            if contents.record
            else "withdrawn"
            if contents.folders
            else "attempt"
            if contents.attempts
            else "note"
        )
        paths = (*contents.folders, *contents.notes, *contents.pointers)
        return UnusedArtifact(
            kind, contents.key, contents.stage, name, UNNEEDED[kind], paths, contents.attempts, attempt
        )
    if contents.record is None:
        why = "its record was withdrawn, so it would be built again"
        return (
            UnusedArtifact("withdrawn", contents.key, contents.stage, name, why, tuple(contents.folders))
            if contents.folders
            else None
        )
    if missing(storage, contents.record):
        return None
    beside = (*(folder for folder in contents.folders if folder != contents.record.folder), *contents.notes)
    if not beside and not contents.attempts:
        return None
    return UnusedArtifact(
        "left over", contents.key, contents.stage, name, "left beside the artifact", beside, contents.attempts, attempt
    )


def _name(storage: Storage, contents: KeyContents) -> str:
    """The node's name from the record, a lineage.json, or a name that points to the key; '' if none has it."""
    if contents.record is not None:
        return contents.record.name
    attempts = (
        [f"{contents.attempts}/{entry}" for entry in storage.entries(contents.attempts)] if contents.attempts else []
    )
    for folder in (*contents.folders, *attempts):
        lineage = storage.read(f"{folder}/lineage.json")
        if lineage:
            return str(json.loads(lineage)["name"])
    # .named/<recipe>/<name>.key, where the name may contain slashes.
    named = next((pointer.removeprefix(f"{NAMED}/") for pointer in contents.pointers), "")
    return named.partition("/")[2].removesuffix(".key")


def _age(unused: UnusedArtifact, below: Below, record: Record | None, now: float) -> float:
    """Seconds since an artifact was committed; for anything else, since one of its files was last written."""
    if unused.kind == "artifact" and record is not None:
        return max(0.0, now - datetime.fromisoformat(record.committed).timestamp())
    return max(0.0, now - max((entry.modified for entry in _entries(unused, below)), default=now))


def _with_bytes(below: Below, unused: Sequence[UnusedArtifact]) -> list[UnusedArtifact]:
    """Each with the bytes that its removal frees. Published files may be links to those of their attempt: a file counts
    once, and only if all of its links are removed."""
    own = {one.key: _entries(one, below) for one in unused}
    removed_links = Counter(entry.identity for entries in own.values() for entry in entries)
    sized, counted = [], set()
    for one in unused:
        size = 0
        for entry in own[one.key]:
            if entry.identity not in counted and entry.links <= removed_links[entry.identity]:
                counted.add(entry.identity)
                size += entry.size
        sized.append(replace(one, bytes=size))
    return sized


def _entries(unused: UnusedArtifact, below: Below) -> list[Entry]:
    """The files that are removed with it."""
    record = (record_name(unused.stage, unused.key),) if unused.kind == "artifact" else ()
    removed = (*record, *unused.paths, *((unused.attempts,) if unused.attempts else ()))
    return [entry for name in removed for entry in below.get(name, ())]


def _files_by_folder(files: Mapping[str, Entry]) -> Below:
    """Name of each file, and of each folder on the second and third level -> the files in it."""
    found: dict[str, list[Entry]] = {}
    for name, entry in files.items():
        parts = name.split("/")
        for folder in {name, "/".join(parts[:2]), "/".join(parts[:3])}:
            found.setdefault(folder, []).append(entry)
    return found
