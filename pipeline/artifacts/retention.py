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
class Waste:
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
class Lot:
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


def find_waste(storage: Storage, graphs: Iterable[Graph], now: float, older_than: float = 0.0) -> list[Waste]:
    """What none of the graphs needs and what is at least ``older_than`` seconds old, the largest first.

    Raises RequestError while it cannot be known what a run that is under way needs.
    """
    needed = {node.key for graph in graphs for node in graph.nodes}
    files = storage.walk()
    lots = look(storage, files)
    kept = _held(storage, lots, now)
    below = _below(files)
    found = [_judged(storage, lot, lot.key in needed) for lot in lots.values() if lot.key not in kept]
    waste = [replace(one, age=_age(one, below, lots[one.key].record, now)) for one in found if one is not None]
    return sorted(_weighed(below, [one for one in waste if one.age >= older_than]), key=lambda one: -one.bytes)


# --- what is there --------------------------------------------------------------------------------


def look(storage: Storage, files: Iterable[str]) -> dict[str, Lot]:
    """Key -> all that lies under it."""
    lots: dict[str, Lot] = {}
    for name in files:
        top, _, rest = name.partition("/")
        key, _, below = rest.partition("/")
        if top == WORK and KEY.fullmatch(key):
            lots.setdefault(key, Lot(key)).attempts = work_of(key)
        elif top == FAILED and KEY.fullmatch(key):
            lots.setdefault(key, Lot(key)).notes.append(name)
        elif top == NAMED and name.endswith(".key"):
            pointed = (storage.read(name) or "").strip()
            lots.setdefault(pointed, Lot(pointed)).pointers.append(name)
        elif not top.startswith(".") and KEY.fullmatch(key) and below:  # of every stage, known to this version or not
            lot, folder = lots.setdefault(key, Lot(key)), f"{top}/{key}/{below.partition('/')[0]}"
            lot.stage = top
            if below != RECORD and folder not in lot.folders:
                lot.folders.append(folder)
    for name, text in recorded(storage).items():
        lot = lots.setdefault(name.split("/")[1], Lot(name.split("/")[1], name.split("/")[0]))
        try:
            lot.record = parsed(text, storage.where(name))
        except RequestError as error:
            # Listed with what it says, and never removed: whoever wrote it may still read it.
            lot.unreadable = str(error)
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


def _held(storage: Storage, lots: Mapping[str, Lot], now: float) -> set[str]:
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


def _judged(storage: Storage, lot: Lot, needed: bool) -> Waste | None:
    """What of a lot goes, without its size and age."""
    name = _name(storage, lot)
    attempt = lot.record.attempt if lot.record else ""
    if lot.unreadable:
        why = lot.unreadable.removeprefix(f"{storage.where(record_name(lot.stage, lot.key))}: ")
        return None if needed else Waste("unreadable", lot.key, lot.stage, name, why)
    if not needed:
        kind: Kind = "artifact" if lot.record else "withdrawn" if lot.folders else "attempt" if lot.attempts else "note"
        paths = (*lot.folders, *lot.notes, *lot.pointers)
        return Waste(kind, lot.key, lot.stage, name, UNNEEDED[kind], paths, lot.attempts, attempt)
    if lot.record is None:
        why = "its record was withdrawn: it would be built anew"
        return Waste("withdrawn", lot.key, lot.stage, name, why, tuple(lot.folders)) if lot.folders else None
    if missing(storage, lot.record):
        return None
    beside = (*(folder for folder in lot.folders if folder != lot.record.folder), *lot.notes)
    if not beside and not lot.attempts:
        return None
    return Waste("left over", lot.key, lot.stage, name, "left beside the artifact", beside, lot.attempts, attempt)


def _name(storage: Storage, lot: Lot) -> str:
    """The node's name, from whatever tells it."""
    if lot.record is not None:
        return lot.record.name
    attempts = [f"{lot.attempts}/{entry}" for entry in storage.entries(lot.attempts)] if lot.attempts else []
    for folder in (*lot.folders, *attempts):
        said = storage.read(f"{folder}/lineage.json")
        if said:
            return str(json.loads(said)["name"])
    # .named/<recipe>/<name>.key, where a name has slashes of its own.
    named = next((pointer.removeprefix(f"{NAMED}/") for pointer in lot.pointers), "")
    return named.partition("/")[2].removesuffix(".key")


def _age(waste: Waste, below: Below, record: Record | None, now: float) -> float:
    """Seconds since it was committed, or since anything of it was last written."""
    if waste.kind == "artifact" and record is not None:
        return max(0.0, now - datetime.fromisoformat(record.committed).timestamp())
    return max(0.0, now - max((entry.modified for entry in _entries(waste, below)), default=now))


def _weighed(below: Below, waste: Sequence[Waste]) -> list[Waste]:
    """Each with the bytes that its removal gives back. Published files are links to those of their attempt: a file
    counts once, and only where all of its links go."""
    own = {one.key: _entries(one, below) for one in waste}
    going = Counter(entry.identity for entries in own.values() for entry in entries)
    weighed, counted = [], set()
    for one in waste:
        size = 0
        for entry in own[one.key]:
            if entry.identity not in counted and entry.links <= going[entry.identity]:
                counted.add(entry.identity)
                size += entry.size
        weighed.append(replace(one, bytes=size))
    return weighed


def _entries(waste: Waste, below: Below) -> list[Entry]:
    """The files that go with it."""
    record = (record_name(waste.stage, waste.key),) if waste.kind == "artifact" else ()
    going = (*record, *waste.paths, *((waste.attempts,) if waste.attempts else ()))
    return [entry for one in going for entry in below.get(one, ())]


def _below(files: Mapping[str, Entry]) -> Below:
    """Name of a file, or of a folder that is two or three deep -> the files that it comes to."""
    found: dict[str, list[Entry]] = {}
    for name, entry in files.items():
        parts = name.split("/")
        for folder in {name, "/".join(parts[:2]), "/".join(parts[:3])}:
            found.setdefault(folder, []).append(entry)
    return found
