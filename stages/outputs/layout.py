"""What a store holds: its columns and their types, and ``store.json``, which names every shard and its checksum.

A store is one of three parts, each an artifact of its own: ``pooled`` (logits and one vector a layer),
``tokens`` (every position of every layer), ``attention`` (the maps of every layer).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stages.atomic import replacing

FORMAT = 1
STORE = "store.json"

ITEM_TYPES = {"float16": np.float16, "float32": np.float32, "int8": np.uint8}


@dataclass(frozen=True, slots=True)
class State:
    """One column of teacher states: the layer (0 the embeddings) and how its positions are pooled, if they are."""

    column: str
    layer: int
    pooling: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The shape of every row. ``pooling`` is '' where nothing is pooled; ``heads`` counts for attention alone."""

    part: str
    layers: tuple[int, ...]
    width: int
    heads: int
    outputs: int
    pooling: str
    precision: str

    @property
    def states(self) -> tuple[State, ...]:
        """The columns of states, in their order in the files."""
        if self.part != "pooled":
            return tuple(State(f"{self.part}_{layer:02d}", layer, "") for layer in self.layers)
        first, *more = ("mean", "cls") if self.pooling == "both" else (self.pooling,)
        found = [State(f"hidden_{layer:02d}", layer, first) for layer in self.layers]
        found += [State(f"cls_{layer:02d}", layer, pooling) for pooling in more for layer in self.layers]
        return tuple(found)

    @property
    def schema(self) -> pa.Schema:
        """Nothing is nullable. Keys first, then logits (or the row's length), then the states."""
        fields = [pa.field("row_key", pa.binary(16), nullable=False)]
        if self.part == "pooled":
            fields.append(pa.field("logits", vector(np.float32, self.outputs), nullable=False))
        else:
            fields.append(pa.field("length", pa.int32(), nullable=False))
        return pa.schema(fields + [pa.field(state.column, self._state, nullable=False) for state in self.states])

    @property
    def _state(self) -> pa.DataType:
        item = ITEM_TYPES[self.precision]
        match self.part:
            case "pooled":
                return vector(item, self.width)
            case "tokens":
                return pa.list_(pa.field("item", vector(item, self.width), nullable=False))
            case _:
                return pa.list_(pa.field("item", pa.from_numpy_dtype(item), nullable=False))

    def column_of(self, layer: int, pooling: str) -> str:
        """The column of a layer's pooled state. ValueError where the store has none."""
        for state in self.states:
            if (state.layer, state.pooling) == (layer, pooling):
                return state.column
        raise ValueError(
            f"store: holds layers {list(self.layers)}, pooling {self.pooling}, but layer {layer}, pooling {pooling} "
            "is asked for; change store.layers or store.pooling"
        )

    def serves(self, other: "Layout") -> bool:
        """Whether every column of ``other`` is among these, in the same number type."""
        alike = (self.part, self.width, self.heads, self.outputs, self.precision)
        same = alike == (other.part, other.width, other.heads, other.outputs, other.precision)
        return same and {(s.column, s.pooling) for s in other.states} <= {(s.column, s.pooling) for s in self.states}


def vector(item: type[Any], width: int) -> pa.DataType:
    """A fixed-size list that holds no null: readers need not look for any."""
    return pa.list_(pa.field("item", pa.from_numpy_dtype(np.dtype(item)), nullable=False), width)


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A finished shard. ``footer_sha256`` is of its Parquet footer alone, which readers check before they parse it;
    ``scales_sha256`` of its scales, which the tier int8 alone has."""

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
    """``store.json``. ``tokenisation`` says by what rule texts became tokens; stores of one teacher that agree
    in it may exchange rows."""

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
    """The shards that lie in a directory, finished ones alone."""
    return sorted(int(path.stem[6:]) for path in directory.glob("shard-*.parquet"))


def write_store(directory: Path, layout: Layout, tokenisation: str, shards: Sequence[ShardFile]) -> Store:
    """Write ``store.json``, whole or not at all."""
    ordered = tuple(sorted(shards, key=lambda shard: shard.number))
    store = Store(layout, tokenisation, sum(shard.rows for shard in ordered), ordered)
    with replacing(directory / STORE) as draft:
        draft.write_text(json.dumps(asdict(store), indent=1) + "\n", "utf-8")
    return store


def read_store(directory: Path) -> Store:
    """ValueError where there is none, and for one of a newer version."""
    path = directory / STORE
    try:
        document = json.loads(path.read_text("utf-8"))
        if document["format"] > FORMAT:
            raise ValueError(f"store format {document['format']} is newer than {FORMAT}; upgrade Stillhouse")
        layout = document.pop("layout")
        layout["layers"] = tuple(layout["layers"])
        shards = tuple(ShardFile(**shard) for shard in document.pop("shards"))
        return Store(layout=Layout(**layout), shards=shards, **document)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: not there; {directory} holds no finished teacher-output store") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); stillhouse verify {directory} --repair") from error


def store_digest(directory: Path) -> str:
    """The identity of a store's content: it names every shard by checksum."""
    return hashlib.sha256((directory / STORE).read_bytes()).hexdigest()
