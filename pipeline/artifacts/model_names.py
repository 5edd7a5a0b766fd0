"""Names of models that stay: ``models/<recipe>/<task>/<method>-<student>-<seed>``, beside the keys.

A name stands for the folder of a model, ``distil/<key>/<attempt>/model``. In a directory it is a relative symbolic
link, so that the storage can be moved and other programs open it as a folder. In a bucket, and on a file system without
links, it is a document ``<name>.json`` with the key and the path. Names are written when a model is built or reused,
each whole or not at all, and are part of no key. They are never followed when artifacts are removed.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from posixpath import dirname, join, normpath
from urllib.parse import quote

from pipeline.artifacts.record import MODELS, Record, parsed_records, record_name
from pipeline.graph.nodes import MODEL, Edge, Graph, Node, ReportedModel
from pipeline.storage import Storage
from stages.atomic import draft_of

DOCUMENT = ".json"
DIGITS = 8
"""Digits of the key behind a name that would else stand for two models."""
TARGET = re.compile(r"(?P<stage>[a-z]+)/(?P<key>[0-9a-f]{64})/(?P<attempt>[0-9]+)(/.*)?")


@dataclass(frozen=True, slots=True)
class ModelPointer:
    """What a name stands for: a folder below the attempt of an artifact. ``path`` is that folder in the storage."""

    stage: str
    key: str
    attempt: str
    path: str


def names_of_models(graph: Graph, recipe: str) -> dict[str, Edge]:
    """Name -> the model, for each model of a recipe that the report lists and a stage makes.

    Two models whose parts come to one name (method ``a-b`` with student ``c``, and ``a`` with ``b-c``) have the first
    digits of their keys behind it; upper case does not tell names apart, as on some file systems it does not.
    """
    return {name: edge for name, _, edge in _named_models(graph, recipe)}


def standing_names(graph: Graph, recipe: str, storage: Storage) -> dict[tuple[str, ReportedModel], str]:
    """(task, model) -> its name, for each model of a recipe whose name stands for it in the storage now: the path of
    the link, or where names are documents, the name, which commands take."""
    named = list(_named_models(graph, recipe))
    links = {name for name, _, _ in named if storage.shared and (storage.local / name).is_symlink()}
    texts = storage.read_many([f"{name}{DOCUMENT}" for name, _, _ in named if name not in links])
    found = {}
    for name, node, edge in named:
        linked = name in links
        pointer = pointer_of(name, storage) if linked else _from_document(texts.get(f"{name}{DOCUMENT}", ""))
        if pointer is not None and pointer.key == edge.source.key:
            assert node.subject is not None
            found[node.task, node.subject] = storage.where(name) if linked else name
    return found


def _named_models(graph: Graph, recipe: str) -> list[tuple[str, Node, Edge]]:
    """(name, evaluation, model) for each model of ``names_of_models``."""
    named = [(_name(node, recipe), node, edge) for node, edge in _reported_models(graph)]
    models: dict[str, set[str]] = {}
    for name, _, edge in named:
        models.setdefault(name.casefold(), set()).add(f"{edge.source.key}/{edge.part}")
    return [
        (name if len(models[name.casefold()]) == 1 else f"{name}-{edge.source.key[:DIGITS]}", node, edge)
        for name, node, edge in named
    ]


def _reported_models(graph: Graph) -> Iterator[tuple[Node, Edge]]:
    for node in graph.wanted:
        given = node.inputs.get("model")
        if node.role == "evaluate" and node.subject is not None and isinstance(given, Edge):
            yield node, given


def _name(node: Node, recipe: str) -> str:
    assert node.subject is not None
    model = f"{node.subject.method}-{node.subject.student}-{node.subject.seed}"
    return "/".join([MODELS, *(_plain(part) for part in (recipe, node.task, model))])


def _plain(part: str) -> str:
    """A part of a name as the name of a folder: other characters than letters, digits, ``_``, ``.``, ``-`` and ``~`` as
    in URLs, and no dot at the start."""
    text = quote(part, safe="")
    return f"%2E{text[1:]}" if text.startswith(".") else text


# --- writing --------------------------------------------------------------------------------------


def write_names(names: Mapping[str, Edge], records: Mapping[str, Record | None], storage: Storage) -> None:
    """Let each name whose model is built stand for it. ``records`` maps the key of a training to its record. Nothing
    happens where the storage cannot be written: no result depends on names."""
    with suppress(OSError):
        for name, edge in names.items():
            record = records.get(edge.source.key)
            if record is not None:
                _write(storage, name, f"{record.folder}/{edge.part or MODEL}")


def _write(storage: Storage, name: str, target: str) -> None:
    if storage.shared and _link(storage.local / name, "../" * name.count("/") + target):
        return
    document = json.dumps({"key": target.split("/")[1], "path": target}, indent=1) + "\n"
    if storage.read(f"{name}{DOCUMENT}") != document:
        storage.write(f"{name}{DOCUMENT}", document)


def _link(path: Path, target: str) -> bool:
    """Make ``path`` a symbolic link to ``target`` in one step; False where the file system has no links, or something
    else than a link is in its place."""
    if path.is_symlink() and os.readlink(path) == target:
        return True
    if path.exists() and not path.is_symlink():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(path)
    try:
        draft.unlink(missing_ok=True)
        draft.symlink_to(target)
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        return False
    return True


# --- reading --------------------------------------------------------------------------------------


def pointer_of(name: str, storage: Storage) -> ModelPointer | None:
    """What a name stands for; None if it is no name of a model, or damaged. Nothing is followed outside the storage."""
    name = name.rstrip("/")
    if not name.startswith(f"{MODELS}/") or normpath(name) != name:
        return None
    path = storage.local / name
    if storage.shared and path.is_symlink():
        return _pointer(normpath(join(dirname(name), os.readlink(path))))
    return _from_document(storage.read_many([f"{name}{DOCUMENT}"]).get(f"{name}{DOCUMENT}", ""))


def read_names(storage: Storage) -> dict[str, ModelPointer]:
    """Every name of a model in the storage, and what it stands for. Links and documents of another kind are left
    out."""
    found: dict[str, ModelPointer | None] = {}
    if storage.shared:
        for where, folders, files in os.walk(storage.local / MODELS):
            for entry in (*folders, *files):
                path = Path(where) / entry
                if path.is_symlink():
                    name = path.relative_to(storage.local).as_posix()
                    found[name] = pointer_of(name, storage)
    documents = [name for name in storage.walk(MODELS) if name.endswith(DOCUMENT) and name not in found]
    for name, text in storage.read_many(documents).items():
        found[name.removesuffix(DOCUMENT)] = _from_document(text)
    return {name: pointer for name, pointer in found.items() if pointer is not None}


def _from_document(text: str) -> ModelPointer | None:
    with suppress(ValueError, TypeError, KeyError):
        return _pointer(str(json.loads(text)["path"]))
    return None


def _pointer(path: str) -> ModelPointer | None:
    match = TARGET.fullmatch(path)
    return None if match is None else ModelPointer(match["stage"], match["key"], match["attempt"], path)


# --- removing -------------------------------------------------------------------------------------


def dangling_names(storage: Storage) -> list[str]:
    """The names whose model is gone: the artifact has no record any more, or one of another attempt. Sorted."""
    names = read_names(storage)
    known = parsed_records(storage, *{pointer.stage for pointer in names.values()}) if names else {}
    dangling = []
    for name, pointer in names.items():
        record = known.get(record_name(pointer.stage, pointer.key))
        if record is None or (isinstance(record, Record) and record.attempt != pointer.attempt):
            dangling.append(name)
    return sorted(dangling)


def remove_names(names: list[str], storage: Storage) -> None:
    """Remove names, and the folders of the recipe and the task that are empty then. Raises OSError."""
    for name in names:
        path = storage.local / name
        if storage.shared and path.is_symlink():
            path.unlink(missing_ok=True)
            for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
                if any(folder.iterdir()):
                    break
                folder.rmdir()
        else:
            storage.remove(f"{name}{DOCUMENT}")
