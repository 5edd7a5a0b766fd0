"""YAML text -> a tree of blocks, lists and scalars, and the changes that are made to a tree before it is validated.

Scalars are read as in the core schema of YAML 1.2: only ``true`` and ``false`` are booleans, so ``no``, ``yes``,
``on`` and ``NO`` are words; ``1e-5`` is a number; nothing is a date, an octal number or a time of day. Keys are
always text, and a key may stand only once in its block. A key without a value is refused, because nearly always a block
was meant to follow it; an explicit ``null`` means that the key is left out.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml

from pipeline.errors import RequestError

Tree = None | bool | int | float | str | list["Tree"] | dict[str, "Tree"]


class _Loader(yaml.SafeLoader):
    """The safe loader with the scalars of YAML 1.2. Only its composer is used: no object is ever made."""


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)


def read(path: Path) -> Tree:
    """The tree in a file. RequestError: no such file, not UTF-8, or not YAML (with the line)."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror or error}; name a recipe file") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: byte {error.start} is not UTF-8; save the recipe as UTF-8") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, origin: str) -> Tree:
    """The tree in ``text``. RequestError gives ``origin:line``."""
    try:
        node = _Loader(text).get_single_node()
        return None if node is None else _plain(node, origin)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise RequestError(
            f"{origin}:{_line(mark)}: not YAML: {error.context or ''} {error.problem}".replace(":  ", ": ")
        ) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RequestError(f"{origin}:{line}: not YAML: {error.reason} (character {error.character!r})") from error
    except RecursionError as error:
        raise RequestError(f"{origin}: blocks lie too deep, or an alias holds itself; write it out flat") from error


def _line(mark: yaml.Mark | None) -> int:
    return 1 if mark is None else mark.line + 1


def _plain(node: yaml.Node, origin: str) -> Tree:
    if isinstance(node, yaml.MappingNode):
        return _block(node, origin)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, origin) for child in node.value]
    assert isinstance(node, yaml.ScalarNode)
    return _scalar(node, origin)


def _block(node: yaml.MappingNode, origin: str) -> dict[str, Tree]:
    block: dict[str, Tree] = {}
    for key, value in node.value:
        at = f"{origin}:{_line(key.start_mark)}"
        if not isinstance(key, yaml.ScalarNode):
            raise RequestError(f"{at}: a key must be a word, not a list or a block")
        if key.value in block:
            raise RequestError(f"{at}: {one_line(key.value)}: this key stands twice in its block; keep one of them")
        if isinstance(value, yaml.ScalarNode) and value.value == "" and value.tag.endswith(":null"):
            raise RequestError(
                f"{at}: {one_line(key.value)}: has no value; write {{}} for a block of defaults, or take the key out"
            )
        block[key.value] = _plain(value, origin)
    return block


def _scalar(node: yaml.ScalarNode, origin: str) -> Tree:
    kind, text = node.tag.rpartition(":")[2], str(node.value)
    if kind == "str":
        return text
    if kind == "null":
        return None
    if kind == "bool" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return _NUMBERS[kind](text)
    except (KeyError, ValueError) as error:
        raise RequestError(
            f"{origin}:{_line(node.start_mark)}: {one_line(text[:40])} ({kind}) cannot be read; use a number, or quotes"
        ) from error


def _finite(text: str) -> float:
    value = math.nan if text.lstrip("-+.").lower() in ("inf", "nan") else float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


_NUMBERS: Mapping[str, Callable[[str], int | float]] = {"int": int, "float": _finite}


def child(tree: object, part: str | int) -> tuple[Tree, bool]:
    """The part of the tree at a key or at a place in a list, and whether there is one; (None, False) where not."""
    if isinstance(tree, Mapping) and part in tree:
        return tree[part], True
    if isinstance(tree, list | tuple) and isinstance(part, int) and 0 <= part < len(tree):
        return tree[part], True
    return None, False


def merged(base: Tree, changes: Tree) -> Tree:
    """``changes`` over ``base``: blocks merge key by key, anything else replaces."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return {**base, **{key: merged(base.get(key), value) for key, value in changes.items()}}


def one_line(text: str) -> str:
    """The text without line breaks: an error is one line, whatever it quotes."""
    return "\\n".join(text.splitlines())


def without_nulls(tree: Tree) -> Tree:
    """The tree without keys whose value is null, which mean that the key is left out."""
    if isinstance(tree, dict):
        return {key: without_nulls(value) for key, value in tree.items() if value is not None}
    if isinstance(tree, list):
        return [without_nulls(value) for value in tree]
    return tree


def plain(value: object) -> Tree:
    """A document of another YAML reader as a Tree. RequestError for a value that a recipe cannot hold."""
    if isinstance(value, Mapping):
        return {str(key): plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [plain(child) for child in value]
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise RequestError(
        f"recipe: {value!r} is a {type(value).__name__}; a recipe holds blocks, lists, texts and numbers"
    )


def with_sets(tree: Tree, sets: Sequence[str]) -> Tree:
    """The tree after each change ``a.b=c``, in order; ``c`` is read as YAML, a number names a place in a list."""
    for change in sets:
        path, equals, text = change.partition("=")
        entry = one_line(change)
        if not equals or not all(path.split(".")):
            raise RequestError(f"--set {entry}: must be KEY=VALUE, for example train.epochs=3")
        if not text.strip():
            raise RequestError(f"--set {entry}: has no value; null takes the key out")
        tree = _with(tree, path.split("."), parse_yaml(text, one_line(f"--set {path}")), f"--set {entry}")
    return tree


def _with(tree: Tree, path: Sequence[str], value: Tree, entry: str) -> Tree:
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(tree, list):
        if not first.isdecimal() or int(first) >= len(tree):
            raise RequestError(f"{entry}: {first} names no place in a list of {len(tree)}, counted from 0")
        place = int(first)
        return [*tree[:place], _with(tree[place], rest, value, entry), *tree[place + 1 :]]
    if tree is None or isinstance(tree, dict):
        block = tree or {}
        return {**block, first: _with(block.get(first), rest, value, entry)}
    raise RequestError(f"{entry}: {tree} is no block, so it has no {first}; set the whole value in its place")


class _Dumper(yaml.SafeDumper):
    """Quotes exactly those texts that ``_Loader`` would read as something else."""

    def ignore_aliases(self, _: object) -> bool:
        """A value that occurs twice is written twice: no anchors and aliases."""
        return True


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def to_yaml(tree: Tree) -> str:
    """The tree as YAML that ``parse_yaml`` reads back as the same tree."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, width=10**6)
