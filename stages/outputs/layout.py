"""The columns of a store and their types, and ``store.json``, which names every shard and its checksum.

A store is one of three parts, each an artifact of its own: ``pooled`` (logits, unless the model was read as a plain
encoder, and one vector for each layer and pooling),
``tokens`` (every position of every layer), ``scores`` (the attention scores of every layer, before the softmax).
Earlier versions wrote ``attention`` (the attention maps, after the softmax) in the place of ``scores``; it is read.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stages.atomic import replacing

FORMAT = 1
"""The format in which stores are written."""
READABLE = (1,)
"""The formats that are read. docs/store.md says what each one is and how long it is read;
``tests/stages/outputs/kept`` holds a store of each."""
STORE = "store.json"

ITEM_TYPES = {"float16": np.float16, "float32": np.float32, "int8": np.uint8}


@dataclass(frozen=True, slots=True)
class State:
    """One column of teacher states: the layer (0 the embeddings), how its positions are pooled ('' where they are
    not), and the width of a state."""

    column: str
    layer: int
    pooling: str
    width: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of every row, and their sizes. ``pooling`` is '' where nothing is pooled; ``heads`` matters for the
    parts ``scores`` and ``attention`` alone. ``outputs`` is the number of logits; a pooled store with 0 of them has no
    column for them. ``widths`` are those of ``layers`` where they differ, as in a convolutional network; () where all
    are ``width``. With ``entries``, a row of a pooled store has logits for each of its entries, such as the words of a
    sentence: a list of vectors, with one vector at least."""

    part: str
    layers: tuple[int, ...]
    width: int
    heads: int
    outputs: int
    pooling: str
    precision: str
    widths: tuple[int, ...] = ()
    entries: bool = False

    @property
    def states(self) -> tuple[State, ...]:
        """The columns of states, in the order in which files hold them."""
        width = self.width_by_layer
        if self.part != "pooled":
            return tuple(State(f"{self.part}_{layer:02d}", layer, "", width[layer]) for layer in self.layers)
        first, *more = ("mean", "cls") if self.pooling == "both" else (self.pooling,)
        found = [State(f"hidden_{layer:02d}", layer, first, width[layer]) for layer in self.layers]
        found += [State(f"cls_{layer:02d}", layer, pooling, width[layer]) for pooling in more for layer in self.layers]
        return tuple(found)

    @property
    def width_by_layer(self) -> Mapping[int, int]:
        """Layer -> the width of its states."""
        return dict(zip(self.layers, self.widths or (self.width,) * len(self.layers), strict=True))

    def width_of(self, column: str) -> int:
        """The width of the states in a column."""
        return next(state.width for state in self.states if state.column == column)

    @property
    def has_logits(self) -> bool:
        """Whether the store has a column of logits."""
        return self.part == "pooled" and self.outputs > 0

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of a shard: the key, the logits if it has any (or the row's length), the states. No field is
        nullable."""
        fields = [pa.field("row_key", pa.binary(16), nullable=False)]
        if self.has_logits:
            each = vector(np.float32, self.outputs)
            kind = pa.list_(pa.field("item", each, nullable=False)) if self.entries else each
            fields.append(pa.field("logits", kind, nullable=False))
        elif self.part != "pooled":
            fields.append(pa.field("length", pa.int32(), nullable=False))
        return pa.schema(
            fields + [pa.field(state.column, self._state_type(state.width), nullable=False) for state in self.states]
        )

    def _state_type(self, width: int) -> pa.DataType:
        item = ITEM_TYPES[self.precision]
        match self.part:
            case "pooled":
                return vector(item, width)
            case "tokens":
                return pa.list_(pa.field("item", vector(item, width), nullable=False))
            case _:
                return pa.list_(pa.field("item", pa.from_numpy_dtype(item), nullable=False))

    def column_of(self, layer: int, pooling: str) -> str:
        """The column of a layer's pooled state. Raises ValueError where the store has none."""
        for state in self.states:
            if (state.layer, state.pooling) == (layer, pooling):
                return state.column
        raise ValueError(
            f"store: holds layers {list(self.layers)}, pooling {self.pooling}, but layer {layer}, pooling {pooling} "
            "is needed; change store.layers or store.pooling"
        )

    def serves(self, other: "Layout") -> bool:
        """Whether this layout has every column of ``other``, in the same number type. States of a store with logits
        serve one without: they are those of the same encoder."""
        alike = (self.part, self.heads, self.precision)
        same = alike == (other.part, other.heads, other.precision)
        logits_alike = (other.outputs, other.entries) == (self.outputs, self.entries)
        same = same and (logits_alike or (other.part == "pooled" and not other.has_logits))
        return same and set(other.states) <= set(self.states)


def vector(item: type[Any], width: int) -> pa.DataType:
    """The Arrow type of a vector: a fixed-size list without nulls."""
    return pa.list_(pa.field("item", pa.from_numpy_dtype(np.dtype(item)), nullable=False), width)


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A finished shard. ``sha256`` is of the whole file; ``footer_sha256`` of its Parquet footer alone, which readers
    check before they parse it; ``scales_sha256`` of its file of scales, '' in all tiers but int8."""

    number: int
    rows: int
    bytes: int
    sha256: str
    footer_sha256: str
    scales_sha256: str = ""

    @property
    def name(self) -> str:
        return shard_name(self.number)


@dataclass(frozen=True, slots=True)
class Store:
    """The content of ``store.json``. ``tokenisation`` names the rule by which texts became tokens; stores of one
    teacher with the same rule may exchange rows."""

    layout: Layout
    tokenisation: str
    rows: int
    shards: tuple[ShardFile, ...]
    format: int = FORMAT


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.parquet"


def scales_name(number: int) -> str:
    return f"scales-{number:05d}.parquet"


def shard_numbers(directory: Path) -> list[int]:
    """The numbers of the finished shards in a directory, in order."""
    return sorted(int(path.stem[6:]) for path in directory.glob("shard-*.parquet"))


def write_store(directory: Path, layout: Layout, tokenisation: str, shards: Sequence[ShardFile]) -> Store:
    """Write ``store.json``, whole or not at all."""
    ordered = tuple(sorted(shards, key=lambda shard: shard.number))
    store = Store(layout, tokenisation, sum(shard.rows for shard in ordered), ordered)
    with replacing(directory / STORE) as draft:
        document = asdict(store)
        if not layout.widths:
            del document["layout"]["widths"]  # as in stores that were written before layers could differ
        if not layout.entries:
            del document["layout"]["entries"]  # likewise
        draft.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return store


class UnknownFormat(ValueError):
    """A store of a format that this version does not read. Nothing is wrong with it."""


def read_store(directory: Path) -> Store:
    """Read ``store.json``. Raises ValueError where there is none, and where it cannot be read, and UnknownFormat for a
    format that is not ``READABLE``."""
    path = directory / STORE
    try:
        document = json.loads(path.read_text("utf-8"))
        if document["format"] not in READABLE:
            newer = document["format"] > FORMAT
            why = f"newer than {FORMAT}; upgrade Stillhouse" if newer else "no longer read; use an earlier Stillhouse"
            raise UnknownFormat(f"{path}: store format {document['format']} is {why}")
        given = document["layout"]
        lists = {name: tuple(given.get(name, ())) for name in ("layers", "widths")}
        layout = Layout(**_known(Layout, {**given, **lists}))
        shards = tuple(ShardFile(**_known(ShardFile, shard)) for shard in document["shards"])
        return Store(**{**_known(Store, document), "layout": layout, "shards": shards})
    except UnknownFormat:
        raise
    except FileNotFoundError as error:
        raise ValueError(f"{path}: not there; {directory} holds no finished teacher-output store") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); stillhouse verify {directory} --repair") from error


def _known(kind: type, document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``document`` that a dataclass has: a later version may write further ones in the same format."""
    names = {own.name for own in fields(kind)}
    return {name: value for name, value in document.items() if name in names}


def store_digest(directory: Path) -> str:
    """The sha256 of ``store.json``, which names every shard by checksum: the identity of a store's content."""
    return hashlib.sha256((directory / STORE).read_bytes()).hexdigest()
