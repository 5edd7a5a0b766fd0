"""The values of a column straight from its Parquet pages.

Arrow's reader decodes a repetition level for every value of a list, which takes longer than inflating the values
themselves. A store's lists have a fixed size and no nulls, so the levels say nothing: the values are what follows
them in the page, end to end. ``benchmarks/decode.py`` measures what that saves.
Only what ``stages/outputs/parquet.py`` writes is understood: version 1 data pages under zstd with checksums, plain; or,
for bytes, which Parquet keeps as four-byte integers, split into streams, of which the first holds them.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

ZSTD = pa.Codec("zstd")

PLAIN, BYTE_STREAM_SPLIT = 0, 9
STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(13)


def read_values(file: BinaryIO, chunk: Any, dtype: npt.DTypeLike, level_blocks: int) -> Iterator[npt.NDArray[Any]]:
    """The values of a column chunk (pyarrow's ``ColumnChunkMetaData``), a flat array a page.

    ``level_blocks`` counts the blocks of levels before the values: two in a list column, none in a flat one.
    Raises ValueError for a page that is damaged or of another make.
    """
    if chunk.compression != "ZSTD" or chunk.has_dictionary_page:
        raise ValueError(f"column {chunk.path_in_schema} is not plain zstd")
    file.seek(chunk.data_page_offset)
    data = file.read(chunk.total_compressed_size)
    if len(data) != chunk.total_compressed_size:
        raise ValueError(f"column {chunk.path_in_schema} is cut short")
    place, left = 0, chunk.num_values
    while left > 0:
        header, start = _page_header(data, place)
        if header.values < 0 or header.compressed < 0 or header.uncompressed < 0:
            raise ValueError("a page's header holds a negative size")
        place = start + header.compressed
        yield _page_values(memoryview(data)[start:place], header, np.dtype(dtype), level_blocks)
        left -= header.values


def level_blocks(schema: pq.ParquetSchema, index: int) -> int:
    """How many blocks of levels precede the values in the pages of leaf column ``index``."""
    column = schema.column(index)
    return int(column.max_repetition_level > 0) + int(column.max_definition_level > 0)


@dataclass(frozen=True, slots=True)
class PageHeader:
    """``crc`` is of the page as it is compressed."""

    uncompressed: int
    compressed: int
    crc: int
    values: int
    encoding: int


def _page_values(page: memoryview, header: PageHeader, dtype: np.dtype[Any], blocks: int) -> npt.NDArray[Any]:
    if zlib.crc32(page) != header.crc:
        raise ValueError("a page's checksum does not match its content")
    whole = ZSTD.decompress(page, header.uncompressed)
    start = 0
    for _ in range(blocks):
        if start + 4 > header.uncompressed:
            raise ValueError("a page ends within its levels")
        start += 4 + int(struct.unpack_from("<I", whole, start)[0])
    kept = 4 if header.encoding == BYTE_STREAM_SPLIT else dtype.itemsize
    if start + header.values * kept != header.uncompressed or (kept > dtype.itemsize and dtype != np.uint8):
        raise ValueError("a page holds nulls or another number type")
    values: npt.NDArray[Any] = np.frombuffer(whole, dtype, header.values, start)
    return values


# --- thrift's compact protocol, as far as a page header needs it -------------------------------------


def _page_header(data: bytes, place: int) -> tuple[PageHeader, int]:
    """The header at ``place``, and where its page begins. parquet.thrift: PageHeader, DataPageHeader."""
    try:
        fields, end = _struct(data, place)
        if fields[1] != 0 or fields[5][2] not in (PLAIN, BYTE_STREAM_SPLIT):
            raise ValueError("a page is not a data page of version 1 in an encoding that stores use")
        return PageHeader(fields[2], fields[3], fields[4] & 0xFFFFFFFF, fields[5][1], fields[5][2]), end
    except (IndexError, KeyError, TypeError) as error:
        raise ValueError("a page's header cannot be read") from error


def _struct(data: bytes, place: int) -> tuple[dict[int, Any], int]:
    fields: dict[int, Any] = {}
    number = 0
    while data[place]:
        kind, step = data[place] & 15, data[place] >> 4
        place += 1
        if step:
            number += step
        else:
            zigzag, place = _varint(data, place)
            number = _signed(zigzag)
        fields[number], place = _value(data, place, kind)
    return fields, place + 1


def _value(data: bytes, place: int, kind: int) -> tuple[Any, int]:
    if kind in (TRUE, FALSE):
        return kind == TRUE, place
    if kind in (BYTE, I16, I32, I64):
        value, place = _varint(data, place)
        return _signed(value), place
    if kind == BINARY:
        length, place = _varint(data, place)
        return data[place : place + length], place + length
    if kind == STRUCT:
        return _struct(data, place)
    raise ValueError(f"a page's header holds thrift type {kind}, which none has")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


def _signed(value: int) -> int:
    return (value >> 1) ^ -(value & 1)
