"""Find what a storage holds that none of the given recipes needs, and why. ``stillhouse gc`` removes it.

Everything under one key is removed or kept together: the record and its files, unfinished attempts, the note of a
failure, and the names that point to the key. Of a key that a recipe needs, only what is left beside its artifact is
found. A key that a process is working on is left out, and so are all artifacts from which its own is built.

An artifact belongs to every recipe that built or used it (``ownership``); only where these are all given is it removed
without a further word. Files that no record names serve no recipe: their artifact would be built again.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from pipeline.artifacts.attempts import attempt_name, attempts_folder, highest_attempt, leased
from pipeline.artifacts.failure import FAILED
from pipeline.artifacts.ownership import Uses, read_uses
from pipeline.artifacts.record import (
    KEY,
    NAMED,
    RECORD,
    DamagedRecord,
    Record,
    key_folder,
    missing,
    parsed_records,
    record_name,
)
from pipeline.errors import RequestError
from pipeline.graph.nodes import Graph, artifact_key
from pipeline.storage import Entry, Storage
from pipeline.storage.port import WORK

Kind = Literal["artifact", "damaged", "withdrawn", "attempt", "left over", "note", "unreadable"]
UNNEEDED: Mapping[Kind, str] = {
    "artifact": "no recipe named here needs it",
    "damaged": "its record is damaged, and no recipe named here needs it",
    "withdrawn": "it has no record, and no recipe named here needs it",
    "attempt": "unfinished, no run is working on it, and no recipe named here needs it",
    "note": "the note of a failure, and no recipe named here needs its node",
}


@dataclass(frozen=True, slots=True)
class UnusedArtifact:
    """What is removed together. ``attempt`` is the one in the record, '' without a record. The record is removed
    first, then ``paths``, then ``attempts`` (the key's folder of unfinished ones). ``bytes`` is the space that becomes
    free: files with links that remain do not count. ``age`` is in seconds. ``recipes`` are those to which the artifact
    belongs; () where none is recorded."""

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
    recipes: tuple[str, ...] = ()

    @property
    def removable(self) -> bool:
        """False for a record of a newer format: a newer version may read it."""
        return self.kind != "unreadable"

    def belongs_to(self, recipes: Set[str]) -> bool:
        """Whether these recipes alone decide on it. True for what serves no recipe: anything but artifacts."""
        return self.kind not in ("artifact", "damaged") or (bool(self.recipes) and set(self.recipes) <= recipes)


@dataclass(frozen=True, slots=True)
class Kept:
    """Artifacts that are kept for one reason: how many, and the bytes of their files."""

    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Survey:
    """What a storage holds. ``unused``: what none of the given recipes needs, the largest first. Kept in any case are
    the artifacts that they need, those that runs are using for others, and those that are too young. ``uncertain``:
    recipes of which it is not known what they used; everything counts as theirs."""

    unused: tuple[UnusedArtifact, ...]
    needed: Kept
    in_use: Kept
    young: Kept
    uncertain: frozenset[str]


@dataclass
class KeyContents:
    """Everything that a storage holds under one key. ``unreadable`` says why its record cannot be read by this version,
    '' if it can; ``damaged``: it can be read by none. ``pointers`` are the names in ``.named`` that point to the key,
    ``recipes`` those that built or used it."""

    key: str
    stage: str = ""
    record: Record | None = None
    unreadable: str = ""
    damaged: bool = False
    recipes: set[str] = field(default_factory=set)
    folders: list[str] = field(default_factory=list)
    attempts: str = ""
    notes: list[str] = field(default_factory=list)
    pointers: list[str] = field(default_factory=list)


Below = Mapping[str, Sequence[Entry]]
"""Name of a file or folder -> the files in it."""


def find_unused(storage: Storage, graphs: Iterable[Graph], now: float, older_than: float = 0.0) -> list[UnusedArtifact]:
    """What none of the graphs needs and is at least ``older_than`` seconds old, the largest first. Arguments and errors
    are those of ``survey``."""
    return list(survey(storage, graphs, now, older_than).unused)


def survey(storage: Storage, graphs: Iterable[Graph], now: float, older_than: float = 0.0) -> Survey:
    """What the storage holds that none of the graphs needs and is at least ``older_than`` seconds old, and how much is
    kept besides. ``now`` is in seconds since 1970.

    Raises RequestError if a run has just begun an attempt, so that it is not known yet which artifacts it uses.
    """
    needed = {node.key for graph in graphs for node in graph.nodes}
    files = storage.walk()
    uses = read_uses(storage, files)
    by_key = contents_by_key(storage, files, uses)
    used = _used_keys(storage, by_key, now)
    below = _files_by_folder(files)
    found = [
        _unused_part(storage, contents, contents.key in needed)
        for contents in by_key.values()
        if contents.key not in used
    ]
    aged = [replace(one, age=_age(one, below, by_key[one.key].record, now)) for one in found if one is not None]
    unused = sorted(_with_bytes(below, [one for one in aged if one.age >= older_than]), key=lambda one: -one.bytes)
    young = {one.key for one in aged if one.age < older_than and one.kind == "artifact"}
    return Survey(
        tuple(unused), _kept(by_key, needed), _kept(by_key, used - needed), _kept(by_key, young), uses.uncertain
    )


def _kept(by_key: Mapping[str, KeyContents], keys: Set[str]) -> Kept:
    records = [by_key[key].record for key in keys if key in by_key]
    sizes = [record.bytes for record in records if record is not None]
    return Kept(len(sizes), sum(sizes))


# --- what the storage holds -----------------------------------------------------------------------


def contents_by_key(storage: Storage, files: Iterable[str], uses: Uses) -> dict[str, KeyContents]:
    """Key -> everything in the storage that belongs to it. ``files`` are the names of all files."""
    by_key: dict[str, KeyContents] = {}
    for name in files:
        top, _, rest = name.partition("/")
        key, _, below = rest.partition("/")
        if top == WORK and KEY.fullmatch(key):
            by_key.setdefault(key, KeyContents(key)).attempts = attempts_folder(key)
        elif top == FAILED and KEY.fullmatch(key):
            by_key.setdefault(key, KeyContents(key)).notes.append(name)
        elif not top.startswith(".") and KEY.fullmatch(key) and below:  # of every stage, known to this version or not
            contents, folder = by_key.setdefault(key, KeyContents(key)), f"{top}/{key}/{below.partition('/')[0]}"
            contents.stage = top
            if below.partition("/")[0] == RECORD:
                contents.damaged = True  # until it is read
            elif folder not in contents.folders:
                contents.folders.append(folder)
    for name, found in parsed_records(storage).items():
        stage, key, _ = name.split("/")
        contents = by_key.setdefault(key, KeyContents(key, stage))
        contents.damaged = isinstance(found, DamagedRecord)
        if isinstance(found, Record):
            contents.record = found
            contents.recipes |= {found.recipe} - {""}
        elif not contents.damaged:
            # Listed with the error and never removed: a newer version reads it.
            contents.unreadable = str(found)
    for key, pointers in uses.pointers.items():
        by_key.setdefault(key, KeyContents(key)).pointers += pointers
    for contents in by_key.values():
        if contents.folders and contents.record is None and not contents.unreadable:
            # Also where the record is an empty folder, which is in no list of files.
            contents.damaged = RECORD in storage.entries(key_folder(contents.stage, contents.key))
        contents.recipes |= uses.by_key.get(contents.key, set()) | uses.uncertain
        if contents.damaged:
            contents.recipes |= {str(_lineage(storage, contents).get("recipe", ""))} - {""}
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
            else "damaged"
            if contents.damaged
            else "withdrawn"
            if contents.folders
            else "attempt"
            if contents.attempts
            else "note"
        )
        paths = (*contents.folders, *contents.notes, *contents.pointers)
        return UnusedArtifact(
            kind,
            contents.key,
            contents.stage,
            name,
            UNNEEDED[kind],
            paths,
            contents.attempts,
            attempt,
            recipes=tuple(sorted(contents.recipes)),
        )
    if contents.record is None:
        why = f"its record {'is damaged' if contents.damaged else 'was withdrawn'}, so it would be built again"
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
    lineage = _lineage(storage, contents)
    if "name" in lineage:
        return str(lineage["name"])
    # .named/<recipe>/<name>.key, where the name may contain slashes.
    named = next((pointer.removeprefix(f"{NAMED}/") for pointer in contents.pointers), "")
    return named.partition("/")[2].removesuffix(".key")


def _lineage(storage: Storage, contents: KeyContents) -> Mapping[str, object]:
    """The first lineage.json that can be read of a key's folders and attempts; {} if there is none."""
    attempts = (
        [f"{contents.attempts}/{entry}" for entry in storage.entries(contents.attempts)] if contents.attempts else []
    )
    names = [f"{folder}/lineage.json" for folder in (*contents.folders, *attempts)]
    for text in storage.read_many(names).values():
        with suppress(ValueError):
            found = json.loads(text)
            if isinstance(found, dict):
                return found
    return {}


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
    record = (record_name(unused.stage, unused.key),) if unused.kind in ("artifact", "damaged") else ()
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
