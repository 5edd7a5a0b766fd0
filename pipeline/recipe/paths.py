"""Where a recipe names files and folders: the one table of such keys, over the tree of a recipe file."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

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
    ("bank", "files", EACH): "file",
    ("bank", "encoder"): "model",
    ("candidates", ANY, "model"): "model",
    ("candidates", ANY, "synonyms"): "file",
    ("candidates", ANY, "there"): "model",
    ("candidates", ANY, "back"): "model",
    ("tracking", "uri"): "tracker",
}
"""Where a path may stand, also under ``overrides.<task>``. A ``source`` may be a word, a ``model`` a name on the hub.
No other key of a recipe means a file."""

WORDS = ("hub", "generated")
"""What ``data.source`` may be but a folder."""
TRACKERS = ("sqlite:///", "file:")
"""What may stand before the path of a tracker's database or folder."""
NO_PATHS = ("databricks", ":memory:")
"""What a tracker may be but a URL or a path."""


def with_paths(tree: Tree, change: Change) -> Tree:
    """The tree with each text that may be a path as ``change(field, kind, text)`` has it.

    ``field`` is where it stands, such as ``student.0.model``.
    """
    for place, kind in PLACES.items():
        for pattern in (place, ("overrides", ANY, *place)):
            tree = _changed(tree, pattern, (), partial(_told, change, kind))
    return tree


def _told(change: Change, kind: Kind, at: tuple[str, ...], text: str) -> str:
    return change(".".join(at), kind, text)


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


def is_relative_path(kind: Kind, text: str, folder: Path) -> bool:
    """Whether the text is a path that depends on where one stands. A model's name is one if it looks like a path,
    or if ``folder`` holds such a folder; else the hub is asked for it."""
    text = text.removeprefix(_before(kind, text))
    if Path(text).is_absolute():
        return False
    match kind:
        case "storage":
            return "://" not in text
        case "source":
            return text not in WORDS
        case "file":
            return True
        case "model":
            return text.startswith(".") or text.count("/") > 1 or (folder / text).is_dir()
        case "tracker":
            return "://" not in text and text not in NO_PATHS


def in_folder(kind: Kind, text: str, folder: Path) -> str:
    """A relative path as it is seen from ``folder``."""
    before = _before(kind, text)
    return f"{before}{folder / text.removeprefix(before)}"


def _before(kind: Kind, text: str) -> str:
    """What stands before the path in a text that is one."""
    found = (prefix for prefix in TRACKERS if kind == "tracker" and text.startswith(prefix))
    return next(found, "")
