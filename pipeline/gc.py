"""What lies in a storage that none of some recipes needs, and why. Finds only; ``freeing`` removes.

All that has one key goes or stays together: the record and its files, attempts that were never finished, the
note of a failure, the names under which the key once stood. A key that a recipe needs loses only what is of no use
to it. A key at which somebody works is left alone, and so is what that work is made from.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from pipeline.artifact import Record, missing, read_record, record_path
from pipeline.errors import RequestError
from pipeline.failure import noted
from pipeline.graph import Graph, artifact_key
from pipeline.lease import highest, leased

KEY = re.compile("[0-9a-f]{64}")

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
    paths: tuple[Path, ...] = ()
    attempts: Path | None = None
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
    folders: list[Path] = field(default_factory=list)
    attempts: Path | None = None
    notes: list[Path] = field(default_factory=list)
    pointers: list[Path] = field(default_factory=list)


def find_waste(storage: Path, graphs: Iterable[Graph], now: float, older_than: float = 0.0) -> list[Waste]:
    """What none of the graphs needs and what is at least ``older_than`` seconds old, the largest first.

    Raises RequestError while it cannot be known what a run that is under way needs.
    """
    needed = {node.key for graph in graphs for node in graph.nodes}
    lots = look(storage)
    kept = _held(storage, lots, now)
    found = [_judged(storage, lot, lot.key in needed) for lot in lots.values() if lot.key not in kept]
    waste = [replace(one, age=_age(one, lots[one.key].record, now)) for one in found if one is not None]
    return sorted(_weighed(storage, [one for one in waste if one.age >= older_than]), key=lambda one: -one.bytes)


# --- what is there --------------------------------------------------------------------------------


def look(storage: Path) -> dict[str, Lot]:
    """Key -> all that lies under it."""
    lots: dict[str, Lot] = {}
    for home in _homes(storage):
        lot = lots.setdefault(home.name, Lot(home.name))
        lot.stage = home.parent.name
        lot.folders = [entry for entry in _entries(home) if entry.name != "record.json"]
        try:
            lot.record = read_record(home / "record.json")
        except RequestError as error:
            # Listed with what it says, and never removed: whoever wrote it may still read it.
            lot.unreadable = str(error)
    for attempts in _keyed(storage / ".work"):
        lots.setdefault(attempts.name, Lot(attempts.name)).attempts = attempts
    for note in noted(storage):
        lots.setdefault(note.name, Lot(note.name)).notes.append(note)
    for pointer in sorted((storage / ".named").rglob("*.key")):
        key = pointer.read_text("utf-8").strip()
        lots.setdefault(key, Lot(key)).pointers.append(pointer)
    return lots


def _homes(storage: Path) -> Iterator[Path]:
    """``<stage>/<key>`` of every stage, known to this version or not."""
    for stage in _entries(storage):
        if stage.is_dir() and not stage.name.startswith("."):
            yield from _keyed(stage)


def _keyed(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if KEY.fullmatch(entry.name) and entry.is_dir()]


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


# --- what somebody uses ---------------------------------------------------------------------------


def in_use(storage: Path, now: float, besides: str = "") -> dict[str, frozenset[str]]:
    """The key of every leased attempt -> the keys of what it is made from."""
    homes = [home for home in _keyed(storage / ".work") if home.name != besides and leased(home, now)]
    return {home.name: _sources(home) for home in homes}


def _sources(home: Path) -> frozenset[str]:
    """Every key that the lineage of the attempt names."""
    attempt = home / f"{highest(home):04d}"
    try:
        said = (attempt / "lineage.json").read_text("utf-8")
    except FileNotFoundError as error:
        raise RequestError(f"{attempt}: a run has just begun there, what it needs is not known; try again") from error
    return frozenset(KEY.findall(said)) - {home.name}


def _lineage(folder: Path) -> Mapping[str, object]:
    """What the folder is, from its ``lineage.json``; {} where it has none."""
    try:
        said: Mapping[str, object] = json.loads((folder / "lineage.json").read_text("utf-8"))
    except FileNotFoundError:
        return {}
    return said


def _held(storage: Path, lots: Mapping[str, Lot], now: float) -> set[str]:
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


def _judged(storage: Path, lot: Lot, needed: bool) -> Waste | None:
    """What of a lot goes, without its size and age."""
    name = _name(lot)
    attempt = lot.record.attempt if lot.record else ""
    if lot.unreadable:
        why = lot.unreadable.removeprefix(f"{record_path(storage, lot.stage, lot.key)}: ")
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
    beside = (*(folder for folder in lot.folders if folder.name != attempt), *lot.notes)
    if not beside and lot.attempts is None:
        return None
    return Waste("left over", lot.key, lot.stage, name, "left beside the artifact", beside, lot.attempts, attempt)


def _name(lot: Lot) -> str:
    """The node's name, from whatever tells it."""
    if lot.record is not None:
        return lot.record.name
    attempts = [entry for entry in _entries(lot.attempts) if entry.is_dir()] if lot.attempts else []
    for folder in (*lot.folders, *attempts):
        said = _lineage(folder) if folder.is_dir() else {}
        if said:
            return str(said["name"])
    # <storage>/.named/<recipe>/<name>.key, where a name has slashes of its own.
    named = next((pointer.as_posix().split("/.named/", 1)[1] for pointer in lot.pointers), "")
    return named.partition("/")[2].removesuffix(".key")


def _age(waste: Waste, record: Record | None, now: float) -> float:
    """Seconds since it was committed, or since anything of it was last written."""
    if waste.kind == "artifact" and record is not None:
        return max(0.0, now - datetime.fromisoformat(record.committed).timestamp())
    paths = (*waste.paths, *((waste.attempts,) if waste.attempts else ()))
    return max(0.0, now - max((entry.stat().st_mtime for path in paths for entry in _all(path)), default=now))


def _all(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir():
        yield from path.rglob("*")


def _weighed(storage: Path, waste: Sequence[Waste]) -> list[Waste]:
    """Each with the bytes that its removal gives back. Published files are links to those of their attempt: a file
    counts once, and only where all of its links go."""
    files = {one.key: [path.lstat() for path in _files(storage, one)] for one in waste}
    going = Counter((stat.st_dev, stat.st_ino) for stats in files.values() for stat in stats)
    weighed, counted = [], set()
    for one in waste:
        size = 0
        for stat in files[one.key]:
            identity = (stat.st_dev, stat.st_ino)
            if identity not in counted and stat.st_nlink <= going[identity]:
                counted.add(identity)
                size += stat.st_size
        weighed.append(replace(one, bytes=size))
    return weighed


def _files(storage: Path, waste: Waste) -> Iterator[Path]:
    """The files that go with it."""
    record = (record_path(storage, waste.stage, waste.key),) if waste.kind == "artifact" else ()
    for path in (*record, *waste.paths, *((waste.attempts,) if waste.attempts else ())):
        yield from (entry for entry in _all(path) if entry.is_file())
