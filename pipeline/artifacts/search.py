"""Find an artifact by what a user may call it: a path inside it, the name of its model or node, the start of a key."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.artifacts.model_names import ModelPointer, pointer_of
from pipeline.artifacts.record import (
    NAMED,
    RECORD,
    Record,
    key_folder,
    parse_record,
    parsed_records,
    read_record,
    record_name,
    stages_of,
)
from pipeline.errors import RequestError, nearest
from pipeline.storage import Storage, open_storage

CHOICES = 4
"""How many artifacts are listed where a name or the start of a key stands for several."""
DIGITS = 12
"""Digits of a key in messages."""


def locate(target: str, storage: Storage, recipe: str | None = None) -> tuple[Record, Storage]:
    """The record that ``target`` names, and its storage. Raises RequestError.

    ``target`` is a path inside an artifact, else the name of a model such as ``models/quickstart/reviews/alp-two-0``,
    else the name of a node such as ``teach@reviews``, else the first digits of a key. With ``recipe``, the name of a
    recipe, it is the name of a node of that recipe and nothing else.
    """
    path = Path(target)
    if recipe is None and path.exists():
        found = _at_path(path)
        if found is not None:
            return found
    pointer = pointer_of(target, storage) if recipe is None else None
    if pointer is not None:
        return _of_pointer(target, pointer, storage), storage
    record = _of_name(target, storage, recipe) or (_of_key(target, storage) if recipe is None else None)
    if record is not None:
        return record, storage
    if recipe is None and path.exists():
        raise RequestError(f"{target}: no {RECORD} here or in a folder above; give an artifact's directory or key")
    raise RequestError(_unknown(target, storage, recipe))


def _at_path(path: Path) -> tuple[Record, Storage] | None:
    inside = path.absolute() if path.is_dir() else path.absolute().parent
    real = inside.resolve()  # of the name of a model, which is a link to its folder
    for folder in (inside, *inside.parents, real, *real.parents):
        if (folder / RECORD).exists():
            there = open_storage(str(folder.parent.parent))
            record = read_record(there, record_name(folder.parent.name, folder.name))
            return None if record is None else (record, there)
    return None


def _of_pointer(name: str, pointer: ModelPointer, storage: Storage) -> Record:
    """The artifact of the model that a name stands for."""
    record = read_record(storage, record_name(pointer.stage, pointer.key))
    if record is None:
        raise RequestError(f"{name}: {pointer.key[:DIGITS]} is no longer in {storage}; run its recipe again")
    return record


def _of_name(name: str, storage: Storage, recipe: str | None) -> Record | None:
    """The artifact that a node of this name had in the last run of the recipe, or of every recipe that has such a node.
    A run that was stopped has noted no names: then the names in the records themselves are searched."""
    noted = _noted_keys(name, storage, recipe)
    if not noted:
        found = [record for record in _records(storage) if record.name == name and recipe in (None, record.recipe)]
        found.sort(key=lambda record: record.committed, reverse=True)
        what = f"stands for {len(found)} artifacts in {storage}"
        about = [f"of {record.recipe}, {record.committed}" for record in found]
        return _only(found, about, f"{name}: {what}: {{}}; give the digits of one")
    found = [record for key in noted for record in _under_key(key, storage)]
    if not found:
        raise RequestError(f"{name}: {next(iter(noted))[:DIGITS]} is no longer in {storage}; run its recipe again")
    what = f"{name}: stands for {len(found)} artifacts in {storage}: {{}}; add --recipe NAME, or give the digits of one"
    return _only(found, [f"of {' and '.join(noted[record.key])}" for record in found], what)


def _noted_keys(name: str, storage: Storage, recipe: str | None) -> Mapping[str, Sequence[str]]:
    """Key -> the recipes in whose last runs a node of this name had it."""
    if not name or name.startswith("/") or ".." in Path(name).parts:
        return {}
    recipes = storage.entries(NAMED) if recipe is None else [recipe]
    notes = {f"{NAMED}/{one}/{name}.key": one for one in recipes}
    found: dict[str, list[str]] = {}
    for note, key in storage.read_many(list(notes)).items():
        found.setdefault(key.strip(), []).append(notes[note])
    return found


def _of_key(start: str, storage: Storage) -> Record | None:
    """The artifact whose key begins with these digits. Raises RequestError for several, and for a damaged record."""
    keys = [(stage, key) for stage in stages_of(storage) for key in storage.entries(stage) if key.startswith(start)]
    there = [one for one in keys if RECORD in storage.entries(key_folder(*one))] if start else []
    if len(there) == 1:
        return read_record(storage, record_name(*there[0]))
    texts = storage.read_many([record_name(*one) for one in there])
    found = [parse_record(text, storage.where(name)) for name, text in texts.items()]
    what = f"{start}: {len(found)} keys in {storage} start with it: {{}}; give more digits"
    return _only(found, [record.name for record in found], what)


def _under_key(key: str, storage: Storage) -> Iterator[Record]:
    for name in storage.read_many([record_name(stage, key) for stage in stages_of(storage)]):
        record = read_record(storage, name)
        if record is not None:
            yield record


def _records(storage: Storage) -> Iterator[Record]:
    """Every record that can be read."""
    yield from (record for record in parsed_records(storage).values() if isinstance(record, Record))


def _only(found: Sequence[Record], about: Sequence[str], message: str) -> Record | None:
    """The one record; None for none. Raises RequestError for several: ``message``, in which ``{}`` stands for their
    keys and for what is known ``about`` each."""
    if len(found) < 2:
        return found[0] if found else None
    listed = [f"{record.key[:DIGITS]} ({text})" for record, text in zip(found, about, strict=True)][:CHOICES]
    more = [f"{len(found) - CHOICES} more"] if len(found) > CHOICES else []
    raise RequestError(message.format(", ".join([*listed, *more])))


def _unknown(target: str, storage: Storage, recipe: str | None) -> str:
    recipes = storage.entries(NAMED)
    if recipe is not None and recipe not in recipes:
        return f"--recipe: {recipe} has not been run on {storage}" + (
            f"; {nearest(recipe, recipes)}" if recipes else ""
        )
    names = {record.name for record in _records(storage) if recipe in (None, record.recipe)}
    hint = nearest(target, names)
    remedy = f"; {hint}" if hint.startswith("did") else "; stillhouse plan RECIPE lists names and keys"
    what = f"no node of {recipe}" if recipe else "neither a path, nor the name of a node, nor the start of a key"
    return f"{target}: is {what} in {storage}{remedy}"
