"""Which recipes an artifact belongs to, by what the storage records: those that built it, and those that used it.

The record of an artifact names the recipe that built it. Each run of a recipe also leaves the list of all keys of its
graph, built or reused, before it starts::

    .named/<recipe>/<first digits of the list's SHA-256>.keys      one key a line

A list is never changed, so runs need no lock, and a graph that is run again leaves no second list. One that is damaged
shows by its name; until the recipe runs again, it is not known what that recipe used.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.artifacts.record import KEY, NAMED
from pipeline.graph.fingerprint import sha256
from pipeline.graph.nodes import Graph
from pipeline.storage import Storage

LIST = ".keys"
POINTER = ".key"
DIGITS = 32
"""Hexadecimal digits of a list's digest in its name."""


@dataclass(frozen=True, slots=True)
class Uses:
    """``by_key``: key -> the recipes that used it; ``pointers``: key -> the names of the documents that point to it as
    the last key of a node; ``uncertain``: recipes of which a list is damaged."""

    by_key: Mapping[str, set[str]]
    pointers: Mapping[str, list[str]]
    uncertain: frozenset[str]


def note_use(storage: Storage, recipe: str, graph: Graph) -> None:
    """Record that the recipe uses the artifacts of its graph. Raises OSError."""
    text = "".join(f"{key}\n" for key in sorted({node.key for node in graph.nodes}))
    name = f"{NAMED}/{recipe}/{_digest(text)}{LIST}"
    if storage.read_many([name]).get(name) != text and not storage.create(name, text):
        storage.write(name, text, durable=True)  # in the place of a damaged list


def read_uses(storage: Storage, names: Iterable[str]) -> Uses:
    """What the storage records of the use of artifacts. ``names`` are the names of all its files."""
    named = [name for name in names if name.startswith(f"{NAMED}/")]
    documents = [name for name in named if name.endswith((LIST, POINTER))]
    texts = storage.read_many(documents)
    by_key: dict[str, set[str]] = {}
    pointers: dict[str, list[str]] = {}
    # A folder in the place of a list.
    uncertain = {name.split("/")[1] for name in named if f"{LIST}/" in name}
    for name in documents:
        recipe, _, below = name.removeprefix(f"{NAMED}/").partition("/")
        text = texts.get(name, "")
        for key in KEY.findall(text):
            by_key.setdefault(key, set()).add(recipe)
        if name.endswith(POINTER) and KEY.fullmatch(text.strip()):
            pointers.setdefault(text.strip(), []).append(name)
        if name.endswith(LIST) and below != f"{_digest(text)}{LIST}":
            uncertain.add(recipe)
    return Uses(by_key, pointers, frozenset(uncertain))


def _digest(text: str) -> str:
    return sha256(text)[:DIGITS]
