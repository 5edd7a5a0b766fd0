"""The keys of a recipe file whose values may be paths, in one table, and a way to change each such value."""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Literal

from pipeline.recipe.reference import BASE, TEACHER
from pipeline.recipe.yaml import Tree

Kind = Literal["storage", "source", "file", "model", "tracker"]
Change = Callable[[str, Kind, str], str]

EACH = "each"
"""One, or each of a list."""
ANY = "any"
"""Each key of a block."""

PLACES: dict[tuple[str, ...], Kind] = {
    ("storage",): "storage",
    ("data", "source"): "source",
    ("task", EACH, "files", ANY): "file",
    ("teacher", "model"): "model",
    ("student", EACH, "model"): "model",
    ("student", EACH, "config", "model"): "model",
    ("models", ANY, "model"): "model",
    ("models", ANY, "config", "model"): "model",
    ("models", ANY, "pretrain", "taught_by"): "model",
    ("models", ANY, "generator"): "model",
    ("method", EACH, "generator"): "model",
    ("bank", "files", EACH): "file",
    ("bank", "encoder"): "model",
    ("candidates", ANY, "model"): "model",
    ("candidates", ANY, "synonyms"): "file",
    ("candidates", ANY, "vectors"): "file",
    ("candidates", ANY, "there"): "model",
    ("candidates", ANY, "back"): "model",
    ("tracking", "uri"): "tracker",
}
"""The keys whose values may be paths, here and under ``overrides.<task>``. A ``source`` may also be one of ``WORDS``,
a ``model`` a name on the hub. No other key of a recipe names a file."""

WORDS = ("hub", "generated")
"""Values of ``data.source`` that are not folders."""
TRACKERS = ("sqlite:///", "file:")
"""Prefixes of the path of a tracker's database or folder."""
NO_PATHS = ("databricks", ":memory:")
"""Values of ``tracking.uri`` that are neither URLs nor paths."""


def with_paths(tree: Tree, change: Change) -> Tree:
    """The tree with each text that may be a path replaced by ``change(field, kind, text)``.

    ``field`` is the place of the text, such as ``student.0.model``.
    """
    models = tree.get("models") if isinstance(tree, dict) else None
    entries = frozenset({BASE, TEACHER, *(models if isinstance(models, dict) else ())})
    for place, kind in PLACES.items():
        # These may name an entry of models, whatever folders there are.
        kept = entries if place[-1] in ("generator", "taught_by") else frozenset()
        for pattern in (place, ("overrides", ANY, *place)):
            tree = _changed(tree, pattern, (), partial(_apply_change, change, kind, kept))
    return tree


def _apply_change(change: Change, kind: Kind, kept: Collection[str], at: tuple[str, ...], text: str) -> str:
    return text if text in kept else change(".".join(at), kind, text)


def _changed(
    tree: Tree, pattern: tuple[str, ...], at: tuple[str, ...], change: Callable[[tuple[str, ...], str], str]
) -> Tree:
    if not pattern:
        return change(at, tree) if isinstance(tree, str) else tree
    first, rest = pattern[0], pattern[1:]
    if first == EACH:
        if isinstance(tree, list):
            return [_changed(item, rest, (*at, str(place)), change) for place, item in enumerate(tree)]
        return _changed(tree, rest, at, change)
    if not isinstance(tree, dict):
        return tree
    return {
        name: _changed(value, rest, (*at, name), change) if first in (ANY, name) else value
        for name, value in tree.items()
    }


def with_home(tree: Tree) -> Tree:
    """The tree with each path that begins with ``~`` below that user's home folder."""

    def expanded(_: str, kind: Kind, text: str) -> str:
        return str(Path(text).expanduser()) if text.startswith("~") and kind != "tracker" else text

    return with_paths(tree, expanded)


def is_relative_path(kind: Kind, text: str, folder: Path) -> bool:
    """Whether the text is a path relative to the current directory. A model's name is one if it looks like a path,
    or if ``folder`` holds a folder of that name; otherwise it is a name on the hub."""
    text = text.removeprefix(_prefix(kind, text))
    if Path(text).is_absolute():
        return False
    match kind:
        case "storage":
            return "://" not in text
        case "source":
            return text not in WORDS and "://" not in text
        case "file":
            return "://" not in text
        case "model":
            return text.startswith(".") or text.count("/") > 1 or (folder / text).is_dir()
        case "tracker":
            return "://" not in text and text not in NO_PATHS


def in_folder(kind: Kind, text: str, folder: Path) -> str:
    """A relative path, joined to ``folder``. The prefix of a tracker's path stays in front."""
    prefix = _prefix(kind, text)
    return f"{prefix}{folder / text.removeprefix(prefix)}"


def _prefix(kind: Kind, text: str) -> str:
    """The prefix of a tracker's path; "" for any other text."""
    found = (prefix for prefix in TRACKERS if kind == "tracker" and text.startswith(prefix))
    return next(found, "")
