"""One shard: written whole or not at all, read column by column, every page checked against its checksum.

Plain encoding, without dictionaries or statistics, since nearly all values differ; zstd compresses float16 by 8 %, so a
store on a fast disk may do without (``TeachSpec.compression``). Byte-stream-split would
make float16 8 % smaller, but not every reader of Parquet supports it for that type; all do for the integers of the tier
int8.
"""

import hashlib
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from stages.atomic import replacing
from stages.corpus.row_key import split_keys
from stages.outputs.entry_logits import EntryLogits
from stages.outputs.layout import ITEM_TYPES, Layout, ShardFile, Store, scales_name, shard_name, vector
from stages.outputs.quantization import Scales, dequantise, quantise
from stages.outputs.sizes import ITEM_BYTES, SHARD_ROWS
from stages.specs.teacher import Compression

Array = npt.NDArray[Any]
Keys = npt.NDArray[np.uint8]
"""[rows, 16]."""

SCALED = "int8"
BATCH_ROWS = 512
"""Rows that are decoded at a time: fast (a processor keeps them in its cache), and little memory."""

# --- writing --------------------------------------------------------------------------------------


def write_shard(
    directory: Path,
    number: int,
    layout: Layout,
    row_keys: Sequence[bytes],
    heads: Array | EntryLogits,
    states: Mapping[str, Array],
    given: Mapping[str, Scales] | None = None,
    compression: Compression = "zstd",
) -> ShardFile:
    """Write a shard, whole or not at all. ``heads`` are the logits [rows, outputs], which have no column if there
    are 0 outputs, or those of entries; or the rows' lengths [rows] where positions are kept.

    ``states`` holds each column of the layout as [rows, width], or as [all positions, width] (attention: flat). In the
    tier int8 they are floats, which are quantised here, or codes with their scales in ``given``.
    """
    scales_sha256 = ""
    if layout.precision == SCALED:
        coded = {name: quantise(values) for name, values in states.items()} if given is None else {}
        scales = {name: found for name, (_, found) in coded.items()} if given is None else dict(given)
        states = {name: codes for name, (codes, _) in coded.items()} if given is None else states
        scales_sha256 = _write(directory / scales_name(number), _scales_table(layout, scales), [], compression)[1]
    columns = [pa.array(row_keys, pa.binary(16))]
    if layout.has_logits or layout.part != "pooled":
        columns.append(_heads(heads, layout))
    for state in layout.states:
        kind = layout.schema.field(state.column).type
        columns.append(_states(states[state.column], heads, layout, kind))
    table = pa.Table.from_arrays(columns, schema=layout.schema)
    size, sha256 = _write(directory / shard_name(number), table, _codes(layout), compression)
    footer = footer_sha256(directory / shard_name(number))
    return ShardFile(number, len(row_keys), size, sha256, footer, scales_sha256)


def _codes(layout: Layout) -> list[str]:
    """Parquet's paths of the columns that hold codes of the tier int8; [] in other tiers."""
    levels = ".list.element" * (2 if layout.part == "tokens" else 1)
    return [state.column + levels for state in layout.states] if layout.precision == SCALED else []


def _write(path: Path, table: pa.Table, codes: list[str], compression: Compression) -> tuple[int, str]:
    """Write a Parquet file. Returns its size in bytes and its sha256."""
    with replacing(path, durable=True) as draft, draft.open("wb") as stream:
        sink = HashedStream(stream)
        _write_parquet(table, sink, codes, compression)
        return sink.size, sink.digest.hexdigest()


class HashedStream:
    """What a Parquet file is written to: passes everything on to ``stream``, and has the size and the sha256 of what
    was written, so that the file need not be read again."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.size = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        self._stream.write(data)
        self.digest.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        self._stream.flush()

    def tell(self) -> int:
        return self.size

    def close(self) -> None:
        """Writes what is buffered; the stream itself is closed by who opened it."""
        self.flush()
        self.closed = True


def _write_parquet(table: pa.Table, sink: HashedStream, codes: list[str], compression: Compression) -> None:
    pq.write_table(
        table,
        sink,
        compression=compression,
        use_dictionary=False,
        use_byte_stream_split=codes,
        write_statistics=False,
        write_page_checksum=True,
        data_page_version="1.0",
        row_group_size=SHARD_ROWS,
    )


def footer_sha256(path: Path) -> str:
    """The sha256 of a Parquet file's footer with its length and magic. Raises Damaged where the file is too short to
    have one."""
    with _readable(path), path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 8))
        (length,) = struct.unpack("<I4x", stream.read(8).rjust(8, b"\0"))
        if length + 12 > size:
            raise ValueError("it has no whole footer")
        stream.seek(size - 8 - length)
        return hashlib.sha256(stream.read()).hexdigest()


def check_footer(directory: Path, shard: ShardFile) -> None:
    """Raise Damaged for a shard whose footer is not the one that was written: some damaged footers make Arrow abort the
    process."""
    with _readable(directory / shard.name):
        if footer_sha256(directory / shard.name) != shard.footer_sha256:
            raise ValueError("its footer is not that of store.json")


def _heads(heads: Array | EntryLogits, layout: Layout) -> pa.Array:
    kind = layout.schema.field(1).type
    if isinstance(heads, EntryLogits):
        return heads.arrow(kind)
    return _vectors(heads, kind) if layout.part == "pooled" else pa.array(heads, kind)


def _states(values: Array, heads: Array | EntryLogits, layout: Layout, kind: pa.DataType) -> pa.Array:
    """A column of states as an Arrow array of the type ``kind``."""
    if isinstance(heads, EntryLogits):
        return _vectors(values, kind)
    match layout.part:
        case "pooled":
            return _vectors(values, kind)
        case "tokens":
            return pa.ListArray.from_arrays(_offsets(heads), _vectors(values, kind.value_type), type=kind)
        case _:
            sizes = layout.heads * heads.astype(np.int64) ** 2
            return pa.ListArray.from_arrays(_offsets(sizes), pa.array(values, kind.value_type), type=kind)


def _vectors(values: Array, kind: pa.DataType) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1), kind.value_type)
    return pa.FixedSizeListArray.from_arrays(flat, type=kind)


def _offsets(sizes: Array) -> pa.Array:
    return pa.array(np.concatenate([np.zeros(1, np.int32), np.cumsum(sizes)]).astype(np.int32))


def _scales_table(layout: Layout, scales: Mapping[str, Scales]) -> pa.Table:
    """Two rows: the scale and the offset of each dimension of each column."""
    fields = [pa.field("what", pa.string(), nullable=False)]
    fields += [pa.field(state.column, vector(np.float32, state.width), nullable=False) for state in layout.states]
    columns = [pa.array(["scale", "offset"])]
    for state, field in zip(layout.states, fields[1:], strict=True):
        found = scales[state.column]
        columns.append(_vectors(np.stack([found.scale, found.offset]), field.type))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


# --- reading --------------------------------------------------------------------------------------


def read_keys(path: Path) -> Keys:
    """The row keys of a shard, [rows, 16]."""
    with _readable(path):
        return np.concatenate([np.empty((0, 16), np.uint8), *_batches(path, "row_key", pa.binary(16))])


def read_row_keys(path: Path) -> list[bytes]:
    """The row keys of a shard as bytes, one object a row."""
    return split_keys(read_keys(path).tobytes())


def read_logits(path: Path, layout: Layout) -> Array:
    """[rows, outputs], float32; [rows, 0] of a store without logits. Not for logits of entries."""
    if not layout.has_logits:
        return np.empty((len(read_keys(path)), 0), np.float32)
    with _readable(path):
        batches = _batches(path, "logits", vector(np.float32, layout.outputs))
        return np.concatenate([np.empty((0, layout.outputs), np.float32), *batches])


def read_entry_logits(path: Path, layout: Layout) -> EntryLogits:
    """The logits of each row's entries, of a store whose layout has ``entries``."""
    with _readable(path):
        table = pq.read_table(path, columns=["logits"], page_checksum_verification=True)
        if not table.schema.field("logits").equals(layout.schema.field("logits")):
            raise ValueError(f"it holds {table.schema.field('logits')}, not {layout.schema.field('logits')}")
        return EntryLogits.from_arrow(table["logits"].combine_chunks())


def state_batches(directory: Path, number: int, layout: Layout, column: str) -> Iterator[Array]:
    """A column of states of a shard as it is stored (int8: codes): arrays [at most BATCH_ROWS, width] that come one
    after the other, so that memory does not grow with the shard. Pooled stores alone. Raises Damaged."""
    path = directory / shard_name(number)
    with _readable(path):
        yield from _batches(path, column, vector(ITEM_TYPES[layout.precision], layout.width_of(column)))


def float_batches(directory: Path, number: int, layout: Layout, column: str) -> Iterator[Array]:
    """The same as float16 or float32: codes are turned into the float32 that they stand for."""
    batches = state_batches(directory, number, layout, column)
    if layout.precision != SCALED:
        yield from batches
        return
    scales = read_scales(directory, number, [column])[column]
    for codes in batches:
        yield dequantise(codes, scales)


def read_scales(directory: Path, number: int, columns: Sequence[str]) -> dict[str, Scales]:
    """The scales of these columns in a shard of the tier int8."""
    path = directory / scales_name(number)
    with _readable(path):
        table = pq.read_table(path, columns=list(columns), page_checksum_verification=True)
    found = {name: np.stack(table[name].to_numpy()) for name in columns}
    return {name: Scales(values[0], values[1]) for name, values in found.items()}


def read_tokens(path: Path, layout: Layout, column: str) -> tuple[Array, Array]:
    """A column of a store that keeps positions: (values [all positions, width], or flat for attention; the
    rows' lengths). The tier int8 gives codes."""
    with _readable(path):
        table = pq.read_table(path, columns=["length", column], page_checksum_verification=True)
    lengths = table["length"].to_numpy()
    values = table[column].combine_chunks().flatten()
    if layout.part == "tokens":
        return values.flatten().to_numpy(zero_copy_only=False).reshape(-1, layout.width_of(column)), lengths
    return values.to_numpy(zero_copy_only=False), lengths


def read_lengths(path: Path) -> Array:
    """[rows] int32: the number of tokens of each row of a shard that keeps positions."""
    with _readable(path):
        table = pq.read_table(path, columns=["length"], page_checksum_verification=True)
    lengths: Array = table["length"].to_numpy()
    return lengths


def count_values(directory: Path, shard: ShardFile, column: str) -> int:
    """The number of values, over all rows, of a column of a shard, from its footer. Raises Damaged for a footer that is
    not the one that was written."""
    check_footer(directory, shard)
    with _readable(directory / shard.name):
        footer = pq.read_metadata(directory / shard.name)
        groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
        chunks = [group.column(index) for group in groups for index in range(footer.num_columns)]
    return sum(chunk.num_values for chunk in chunks if chunk.path_in_schema.split(".")[0] == column)


def uncompressed_bytes(directory: Path, store: Store) -> tuple[int, int]:
    """Bytes of all values as they are stored, before compression; and of the same values in float32."""
    stored = single = 0
    for shard in store.shards:
        with _readable(directory / shard.name):
            footer = pq.read_metadata(directory / shard.name)
        for group in range(footer.num_row_groups):
            for index in range(footer.num_columns):
                chunk = footer.row_group(group).column(index)
                column = chunk.path_in_schema.split(".")[0]
                state = column not in ("row_key", "logits", "length")
                item = ITEM_BYTES[store.layout.precision] if state else {"row_key": 16}.get(column, 4)
                stored += chunk.num_values * item
                single += chunk.num_values * (4 if state else item)
    return stored, single


def _batches(path: Path, column: str, kind: pa.DataType) -> Iterator[Array]:
    """The values of a column without nulls and of type ``kind``, a row key or a vector a row: arrays [rows, width].

    Only the bytes of this column are read, a row group at a time, and each page is checked against its CRC. Raises what
    Arrow raises, and ValueError for a column of another type, with nulls, or with fewer or more rows than the footer
    counts.
    """
    rows = 0
    with pq.ParquetFile(path, metadata=_footer(path), pre_buffer=False, page_checksum_verification=True) as file:
        expected = pa.field(column, kind, nullable=False)
        found = [field for field in file.schema_arrow if field.name == column]
        if not found or not found[0].equals(expected):
            raise ValueError(f"it holds {found[0] if found else f'no column {column}'}, not {expected}")
        for batch in file.iter_batches(BATCH_ROWS, columns=[column], use_threads=False):
            rows += batch.num_rows
            yield _matrix(batch.column(0))
        if rows != file.metadata.num_rows:
            raise ValueError(f"column {column} has {rows} rows, the footer counts {file.metadata.num_rows}")


def _matrix(values: pa.Array) -> Array:
    """Row keys, or vectors, as a matrix [rows, width] over Arrow's own memory."""
    if pa.types.is_fixed_size_list(values.type):
        flat: Array = values.flatten().to_numpy(zero_copy_only=True)
        return flat.reshape(len(values), values.type.list_size)
    width = values.type.byte_width
    flat = np.frombuffer(values.buffers()[1], np.uint8, len(values) * width, values.offset * width)
    return flat.reshape(len(values), width)


def _footer(path: Path) -> pq.FileMetaData:
    """A shard's metadata, parsed once for all its columns."""
    about = path.stat()
    return _parsed_footer(path, about.st_ino, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=4)
def _parsed_footer(path: Path, _inode: int, _size: int, _changed: int) -> pq.FileMetaData:
    """The further arguments distinguish files that were at the same path one after the other."""
    return pq.read_metadata(path)


class _readable:  # noqa: N801
    """Raises any error of reading a shard as Damaged: one line that names the shard and the command that repairs it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        """Nothing to open."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Damaged):
            return
        if isinstance(error, pa.ArrowException | OSError | ValueError | TypeError | struct.error):
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            if "CRC checksum verification failed" in reason:
                reason = "a page's checksum does not match its content"
            raise Damaged(
                f"{self.path}: this shard cannot be read ({reason}); "
                f"stillhouse verify {self.path.parent} --repair computes it anew"
            ) from error


class Damaged(ValueError):
    """A shard cannot be read, or is not what was written."""
