"""The teacher-output store: Parquet shards that any tool can read. Its schema, writer and reader.

A row is ``row_key`` (binary 16), ``logits`` (fixed-size list of float32) and ``hidden_00`` ... ``hidden_LL``
(the pooled state of each layer, 00 the embeddings; fixed-size list of float16 or float32), one column a
layer, so that a reader of five layers reads five. One row a key. ``store.json`` says what is inside.
numpy and pyarrow only.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Layout:
    """What a store holds: its layers by number, their width, the logits' width, pooling and number type."""

    layers: tuple[int, ...]
    width: int
    outputs: int
    pooling: str
    precision: str
    rows: int
    shards: int

    @property
    def schema(self) -> pa.Schema:
        state = pa.list_(pa.from_numpy_dtype(np.dtype(self.precision)), self.width)
        fields = [pa.field("row_key", pa.binary(16)), pa.field("logits", pa.list_(pa.float32(), self.outputs))]
        return pa.schema(fields + [pa.field(column(layer), state) for layer in self.layers])


def column(layer: int) -> str:
    """The column of a layer: 0 is the embeddings, 1 the first encoder layer."""
    return f"hidden_{layer:02d}"


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.parquet"


def write_shard(
    path: Path, layout: Layout, row_keys: Sequence[bytes], logits: Array, states: Mapping[int, Array]
) -> None:
    """One shard, whole or not at all. zstd over plain encoding, without dictionaries: every value differs."""
    columns = [pa.array(row_keys, pa.binary(16)), _matrix(logits, layout.schema.field("logits").type)]
    columns += [_matrix(states[layer], layout.schema.field(column(layer)).type) for layer in layout.layers]
    draft = path.with_name(path.name + ".tmp")
    pq.write_table(
        pa.Table.from_arrays(columns, schema=layout.schema),
        draft,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
        row_group_size=4096,
    )
    os.replace(draft, path)


def _matrix(values: Array, kind: pa.DataType) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1), kind.value_type)
    return pa.FixedSizeListArray.from_arrays(flat, type=kind)


def write_layout(directory: Path, layout: Layout) -> None:
    (directory / "store.json").write_text(json.dumps(asdict(layout), indent=1) + "\n", "utf-8")


def read_layout(directory: Path) -> Layout:
    document = json.loads((directory / "store.json").read_text("utf-8"))
    return Layout(**{**document, "layers": tuple(document["layers"])})


def read_columns(directory: Path, columns: Sequence[str], row_keys: Sequence[bytes]) -> dict[str, Array]:
    """These columns for the rows with these keys, in their order: each [rows, width] in the stored type.

    Raises ValueError, naming the row, when the store lacks one of the keys or one of the columns.
    """
    layout = read_layout(directory)
    known = set(layout.schema.names)
    lacking = [name for name in columns if name not in known]
    if lacking:
        raise ValueError(f"{directory}: the store has no column {lacking[0]}; it has {', '.join(sorted(known))}")
    table = pa.concat_tables([_read_shard(directory / shard_name(i), columns) for i in range(layout.shards)])
    # One index over all shards: the join is by content, whatever the order of the rows.
    places = pc.index_in(pa.array(row_keys, pa.binary(16)), value_set=table["row_key"].combine_chunks())
    if places.null_count:
        row = int(np.flatnonzero(np.asarray(places.is_null()))[0])
        raise ValueError(
            f"{directory}: the store lacks {places.null_count} of {len(row_keys)} rows, the first is row {row} "
            f"({row_keys[row].hex()}); run the teach stage over this corpus"
        )
    rows = places.to_numpy()
    return {name: _gather(table[name], rows) for name in columns}


def _read_shard(path: Path, columns: Sequence[str]) -> pa.Table:
    try:
        return pq.read_table(path, columns=["row_key", *columns])
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(
            f"{path}: this shard cannot be read ({str(error).splitlines()[0]}); rebuild it with --stage teach"
        ) from error


def _gather(values: pa.ChunkedArray, rows: npt.NDArray[np.int64]) -> Array:
    gathered: Array = _whole(values)[rows]
    return gathered


def _whole(values: pa.ChunkedArray) -> Array:
    """A column of fixed-size lists as [rows, width]."""
    array = values.combine_chunks()
    whole: Array = array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)
    return whole


@dataclass(frozen=True, slots=True)
class Spread:
    """How much a layer's pooled state says about a row. ``variance`` is the variance between rows as a share of
    the mean squared norm: near 0, all rows look alike, and matching the layer teaches nothing."""

    norm: float
    variance: float


def layer_spreads(directory: Path) -> dict[str, Spread]:
    """Mean norm and between-row variance of every layer, shard by shard, in float64."""
    layout = read_layout(directory)
    return {column(layer): _spread(directory, column(layer), layout) for layer in layout.layers}


def _spread(directory: Path, name: str, layout: Layout) -> Spread:
    total, squares, norms = np.zeros(layout.width), 0.0, 0.0
    for number in range(layout.shards):
        values = _whole(_read_shard(directory / shard_name(number), [name])[name]).astype(np.float64)
        total += values.sum(0)
        squares += float((values**2).sum())
        norms += float(np.sqrt((values**2).sum(1)).sum())
    energy = squares / layout.rows
    between = energy - float(((total / layout.rows) ** 2).sum())
    return Spread(norms / layout.rows, max(0.0, between) / energy if energy else 0.0)
