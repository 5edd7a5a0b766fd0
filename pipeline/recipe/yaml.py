"""YAML text -> a tree of blocks, lists and scalars, and the changes that are made to a tree before it is validated.

Scalars are read as in the core schema of YAML 1.2: only ``true`` and ``false`` are booleans, so ``no``, ``yes``,
``on`` and ``NO`` are words; ``1e-5`` is a number; nothing is a date, an octal number or a time of day. Keys are
always text, and a key may stand only once in its block. A key without a value is refused, because nearly always a block
was meant to follow it; an explicit ``null`` means that the key is left out.

A tree is bounded in bytes, depth and nodes. A node is a block, a list or a scalar; what an alias stands for counts each
time, since a few lines of aliases of aliases would otherwise become billions of nodes.
"""

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml

from pipeline.errors import RequestError

Tree = None | bool | int | float | str | list["Tree"] | dict[str, "Tree"]


MAX_BYTES = 2**22
"""The largest file that is read as a recipe, and the letters that all scalars and keys of a tree may have together."""
MAX_NODES = 50_000
"""Nodes that a tree may have. A large batch has some hundreds."""
MAX_DEPTH = 64
"""Blocks and lists that may lie in each other. Recipes have about six."""

TOO_MANY = f"is larger than {MAX_NODES:,} keys and values or {MAX_BYTES:,} letters, with aliases written out; split it"
TOO_DEEP = "blocks lie too deep, or an alias holds itself; write it out flat"

FILE_KINDS: Mapping[int, str] = {
    stat.S_IFIFO: "is a named pipe",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
}
"""What a path may lead to whose reading could wait forever or never end."""


class _Bounds:
    """Counts the nodes and the letters of a tree, and holds them to the bounds above. ``origin`` begins its errors."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.nodes = 0
        self.letters = 0

    def count(self, depth: int, text: object = "") -> None:
        """Count one more node, which lies in ``depth`` blocks and lists. ``text`` is that of a scalar or a key. Raises
        RequestError beyond a bound."""
        self.nodes += 1
        self.letters += len(text) if isinstance(text, str) else 0
        if self.nodes > MAX_NODES or self.letters > MAX_BYTES:
            raise RequestError(f"{self.origin}: {TOO_MANY}")
        if depth > MAX_DEPTH:
            raise RequestError(f"{self.origin}: {TOO_DEEP}")


class _Loader(yaml.SafeLoader):
    """The safe loader with the scalars of YAML 1.2. Only its composer is used: no object is ever made. ``bounds`` count
    the nodes as they are written, before aliases are expanded."""

    def __init__(self, text: str, bounds: _Bounds) -> None:
        super().__init__(text)
        self.bounds = bounds
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next node. Raises RequestError where there are too many, or it lies too deep."""
        self.bounds.count(self.depth)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


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
    """The tree in a file. RequestError: no such file, no file but a directory, pipe, socket or device, too large, not
    UTF-8, or not YAML (with the line)."""
    try:
        text = read_file(path).decode("utf-8-sig")
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror or error}; name a recipe file") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: byte {error.start} is not UTF-8; save the recipe as UTF-8") from error
    return parse_yaml(text, str(path))


def read_file(path: Path) -> bytes:
    """The content of a file of at most ``MAX_BYTES``. Raises OSError, and RequestError for anything but a file. It is
    opened without waiting, since a pipe that nothing writes to would otherwise keep the program waiting."""
    kind = stat.S_IFMT(path.stat().st_mode)
    if kind not in FILE_KINDS:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            kind = stat.S_IFMT(os.fstat(file.fileno()).st_mode)
            content = b"" if kind in FILE_KINDS else file.read(MAX_BYTES + 1)
    if kind in FILE_KINDS:
        raise RequestError(f"{path}: {FILE_KINDS[kind]}; name a recipe file")
    if len(content) > MAX_BYTES:
        raise RequestError(f"{path}: is larger than {MAX_BYTES:,} bytes; name a recipe file")
    return content


def parse_yaml(text: str, origin: str) -> Tree:
    """The tree in ``text``. RequestError gives ``origin:line``."""
    try:
        node = _Loader(text, _Bounds(origin)).get_single_node()
        return None if node is None else _plain(node, _Bounds(origin))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise RequestError(
            f"{origin}:{_line(mark)}: not YAML: {error.context or ''} {error.problem}".replace(":  ", ": ")
        ) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RequestError(f"{origin}:{line}: not YAML: {error.reason} (character {error.character!r})") from error


def _line(mark: yaml.Mark | None) -> int:
    return 1 if mark is None else mark.line + 1


def _plain(node: yaml.Node, bounds: _Bounds, depth: int = 0) -> Tree:
    bounds.count(depth, node.value)
    if isinstance(node, yaml.MappingNode):
        return _block(node, bounds, depth)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, bounds, depth + 1) for child in node.value]
    assert isinstance(node, yaml.ScalarNode)
    return _scalar(node, bounds.origin)


def _block(node: yaml.MappingNode, bounds: _Bounds, depth: int) -> dict[str, Tree]:
    block: dict[str, Tree] = {}
    for key, value in node.value:
        at = f"{bounds.origin}:{_line(key.start_mark)}"
        if not isinstance(key, yaml.ScalarNode):
            raise RequestError(f"{at}: a key must be a word, not a list or a block")
        if key.value in block:
            raise RequestError(f"{at}: {one_line(key.value)}: this key stands twice in its block; keep one of them")
        if isinstance(value, yaml.ScalarNode) and value.value == "" and value.tag.endswith(":null"):
            raise RequestError(
                f"{at}: {one_line(key.value)}: has no value; write {{}} for a block of defaults, or take the key out"
            )
        bounds.count(depth, key.value)
        block[key.value] = _plain(value, bounds, depth + 1)
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


def digest(tree: Tree) -> str:
    """The SHA-256 of a tree, as 64 hexadecimal digits. The order of the keys of a block does not count."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def plain(document: object) -> Tree:
    """A document of another YAML reader as a Tree. RequestError for a value that a recipe cannot hold, and for more
    nodes than a tree may have."""
    return _plain_value(document, _Bounds("recipe"), 0)


def _plain_value(value: object, bounds: _Bounds, depth: int) -> Tree:
    bounds.count(depth, value)
    if isinstance(value, Mapping):
        return {str(key): _plain_value(child, bounds, depth + 1) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_value(child, bounds, depth + 1) for child in value]
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
        if path.count(".") >= MAX_DEPTH:
            raise RequestError(f"--set {one_line(path)[:60]}: {TOO_DEEP}")
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


def to_flow(value: Tree) -> str:
    """The value as YAML on one line, such as ``[a, 'b, c']``, so that it may stand within a list or a block."""
    text: str = yaml.dump(
        [value], Dumper=_Dumper, sort_keys=False, width=10**6, default_flow_style=True, allow_unicode=True
    )
    return text.rstrip("\n")[1:-1]
