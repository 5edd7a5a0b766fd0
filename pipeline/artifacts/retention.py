"""What lies in a storage that none of some recipes needs, and why. Finds only; ``freeing`` removes.

All that has one key goes or stays together: the record and its files, attempts that were never finished, the
note of a failure, the names under which the key once stood. A key that a recipe needs loses only what is of no use
to it. A key at which somebody works is left alone, and so is what that work is made from.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from pipeline.artifacts.attempts import attempt_name, highest, leased, work_of
from pipeline.artifacts.failure import FAILED
from pipeline.artifacts.record import KEY, NAMED, RECORD, Record, missing, parsed, record_name, recorded
from pipeline.errors import RequestError
from pipeline.graph.nodes import Graph, artifact_key
from pipeline.storage import Entry, Storage
from pipeline.storage.port import WORK

Kind = Literal["artifact", "withdrawn", "attempt", "left over", "note", "unreadable"]
UNNEEDED: Mapping[Kind, str] = {
    "artifact": "no recipe named here needs it",
    "withdrawn": "it has no record, and no recipe named here needs it",
    "attempt": "unfinished, nobody works on it, and no recipe named here needs it",
    "note": "a note of what no recipe named here needs",
}


@dataclass(frozen=True, slots=True)
class UnusedArtifact:
    """What goes together. ``attempt`` is the one that the record names, '' without a record. ``paths`` go after the
    record, ``attempts`` (a key's folder of unfinished ones) last. ``bytes`` are those that no remaining link holds;
    ``age`` is in seconds."""

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
        return self.kind != "unreadable"


@dataclass
class KeyContents:
    """All that a storage holds under one key."""

    key: str
    stage: str = ""
    record: Record | None = None
    unreadable: str = ""
    folders: list[str] = field(default_factory=list)
    attempts: str = ""
    notes: list[str] = field(default_factory=list)
    pointers: list[str] = field(default_factory=list)


Below = Mapping[str, Sequence[Entry]]
"""Folder, or file -> the files that it comes to."""


def find_unused(storage: Storage, graphs: Iterable[Graph], now: float, older_than: float = 0.0) -> list[UnusedArtifact]:
    """What none of the graphs needs and what is at least ``older_than`` seconds old, the largest first.

    Raises RequestError while it cannot be known what a run that is under way needs.
    """
    needed = {node.key for graph in graphs for node in graph.nodes}
    files = storage.walk()
    lots = look(storage, files)
    kept = _held(storage, lots, now)
    below = _below(files)
    found = [
        _judged(storage, contents, contents.key in needed) for contents in lots.values() if contents.key not in kept
    ]
    unused = [replace(one, age=_age(one, below, lots[one.key].record, now)) for one in found if one is not None]
    return sorted(_weighed(below, [one for one in unused if one.age >= older_than]), key=lambda one: -one.bytes)


# --- what is there --------------------------------------------------------------------------------


def look(storage: Storage, files: Iterable[str]) -> dict[str, KeyContents]:
    """Key -> all that lies under it."""
    lots: dict[str, KeyContents] = {}
    for name in files:
        top, _, rest = name.partition("/")
        key, _, below = rest.partition("/")
        if top == WORK and KEY.fullmatch(key):
            lots.setdefault(key, KeyContents(key)).attempts = work_of(key)
        elif top == FAILED and KEY.fullmatch(key):
            lots.setdefault(key, KeyContents(key)).notes.append(name)
        elif top == NAMED and name.endswith(".key"):
            pointed = (storage.read(name) or "").strip()
            lots.setdefault(pointed, KeyContents(pointed)).pointers.append(name)
        elif not top.startswith(".") and KEY.fullmatch(key) and below:  # of every stage, known to this version or not
            contents, folder = lots.setdefault(key, KeyContents(key)), f"{top}/{key}/{below.partition('/')[0]}"
            contents.stage = top
            if below != RECORD and folder not in contents.folders:
                contents.folders.append(folder)
    for name, text in recorded(storage).items():
        contents = lots.setdefault(name.split("/")[1], KeyContents(name.split("/")[1], name.split("/")[0]))
        try:
            contents.record = parsed(text, storage.where(name))
        except RequestError as error:
            # Listed with what it says, and never removed: whoever wrote it may still read it.
            contents.unreadable = str(error)
    return lots


# --- what somebody uses ---------------------------------------------------------------------------


def in_use(storage: Storage, now: float, besides: str = "") -> dict[str, frozenset[str]]:
    """The key of every leased attempt -> the keys of what it is made from."""
    keys = [key for key in storage.entries(WORK) if KEY.fullmatch(key) and key != besides]
    return {key: _sources(storage, key) for key in keys if leased(storage, key, now)}


def _sources(storage: Storage, key: str) -> frozenset[str]:
    """Every key that the lineage of the attempt names."""
    attempt = f"{work_of(key)}/{attempt_name(highest(storage, work_of(key)))}"
    said = storage.read(f"{attempt}/lineage.json")
    if said is None:
        where = storage.where(attempt)
        raise RequestError(f"{where}: a run has just begun there, what it needs is not known; try again")
    return frozenset(KEY.findall(said)) - {key}


def _held(storage: Storage, lots: Mapping[str, KeyContents], now: float) -> set[str]:
    """Keys at which somebody works, and of all that went into those."""
    busy = in_use(storage, now)
    held, ahead = set(busy), [key for inputs in busy.values() for key in inputs]
    while ahead:
        key = ahead.pop()
        record = lots[key].record if key in lots else None
        if key not in held and record is not None:
            ahead.extend(map(artifact_key, record.inputs.values()))
        held.add(key)
    return held


# --- what goes ------------------------------------------------------------------------------------


def _judged(storage: Storage, contents: KeyContents, needed: bool) -> UnusedArtifact | None:
    """What of a lot goes, without its size and age."""
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
        why = "its record was withdrawn: it would be built anew"
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
    """The node's name, from whatever tells it."""
    if contents.record is not None:
        return contents.record.name
    attempts = (
        [f"{contents.attempts}/{entry}" for entry in storage.entries(contents.attempts)] if contents.attempts else []
    )
    for folder in (*contents.folders, *attempts):
        said = storage.read(f"{folder}/lineage.json")
        if said:
            return str(json.loads(said)["name"])
    # .named/<recipe>/<name>.key, where a name has slashes of its own.
    named = next((pointer.removeprefix(f"{NAMED}/") for pointer in contents.pointers), "")
    return named.partition("/")[2].removesuffix(".key")


def _age(unused: UnusedArtifact, below: Below, record: Record | None, now: float) -> float:
    """Seconds since it was committed, or since anything of it was last written."""
    if unused.kind == "artifact" and record is not None:
        return max(0.0, now - datetime.fromisoformat(record.committed).timestamp())
    return max(0.0, now - max((entry.modified for entry in _entries(unused, below)), default=now))


def _weighed(below: Below, unused: Sequence[UnusedArtifact]) -> list[UnusedArtifact]:
    """Each with the bytes that its removal gives back. Published files are links to those of their attempt: a file
    counts once, and only where all of its links go."""
    own = {one.key: _entries(one, below) for one in unused}
    going = Counter(entry.identity for entries in own.values() for entry in entries)
    weighed, counted = [], set()
    for one in unused:
        size = 0
        for entry in own[one.key]:
            if entry.identity not in counted and entry.links <= going[entry.identity]:
                counted.add(entry.identity)
                size += entry.size
        weighed.append(replace(one, bytes=size))
    return weighed


def _entries(unused: UnusedArtifact, below: Below) -> list[Entry]:
    """The files that go with it."""
    record = (record_name(unused.stage, unused.key),) if unused.kind == "artifact" else ()
    going = (*record, *unused.paths, *((unused.attempts,) if unused.attempts else ()))
    return [entry for one in going for entry in below.get(one, ())]


def _below(files: Mapping[str, Entry]) -> Below:
    """Name of a file, or of a folder that is two or three deep -> the files that it comes to."""
    found: dict[str, list[Entry]] = {}
    for name, entry in files.items():
        parts = name.split("/")
        for folder in {name, "/".join(parts[:2]), "/".join(parts[:3])}:
            found.setdefault(folder, []).append(entry)
    return found
