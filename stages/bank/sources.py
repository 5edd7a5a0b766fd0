"""Data files of texts, read as a stream: Parquet by row groups, all others line by line, compressed or not.

    .parquet    .txt (a text a line)    .jsonl    .csv    .tsv          the last four also .gz .zst .bz2 .xz

At most the text columns of one row group, or ``BLOCK_ROWS`` lines, are in memory.
"""

import bz2
import csv
import gzip
import io
import lzma
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.corpus.sources import decode, json_object
from stages.corpus.task_files import FORMATS, not_parquet

SUFFIXES = (*FORMATS, "txt")
COMPRESSED = ("gz", "zst", "bz2", "xz")
BLOCK_ROWS = 32_768
SPAN_ROWS = 262_144
LONGEST_FIELD = 2**30

Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Row groups ``first`` up to ``last`` (exclusive) of a Parquet file, ``rows`` rows; or the whole of any other file.
    ``size`` is in bytes."""

    path: Path
    size: int
    first: int = 0
    last: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class TextBlock:
    """Some rows of a span. ``done``: bytes of the span that are read once these rows are."""

    rows: list[Row]
    done: float


def kind_of(path: Path) -> tuple[str, str]:
    """(kind, compression or '') of a file, by its name. ValueError for an unknown kind."""
    names = path.name.split(".")
    compression = names.pop() if len(names) > 2 and names[-1] in COMPRESSED else ""
    kind = names[-1] if len(names) > 1 else ""
    if kind not in SUFFIXES or (kind == "parquet" and compression):
        raise ValueError(
            f"{path}: unknown kind of file {path.suffix!r}; use one of {', '.join(SUFFIXES)}; all but parquet also as "
            f".{', .'.join(COMPRESSED)}"
        )
    return kind, compression


def text_files(given: Sequence[Path]) -> list[Path]:
    """The given files, and for each given folder the files of a known kind in it, sorted by name. ValueError for a path
    that does not exist, a file of an unknown kind, and a folder without files of a known kind."""
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = [one for one in sorted(path.iterdir()) if one.is_file() and _is_known(one)]
            if not inside:
                raise ValueError(f"{path}: holds no file of texts; name one of {', '.join(SUFFIXES)}")
            found += inside
            continue
        if not path.is_file():
            raise ValueError(f"{path}: no such file or folder; give a path from where you run this")
        kind_of(path)
        found.append(path)
    return found


def _is_known(path: Path) -> bool:
    try:
        kind_of(path)
    except ValueError:
        return False
    return True


def spans(path: Path, columns: Sequence[str]) -> list[Span]:
    """The spans of a file, in order, each for one worker. ValueError for a file that lacks one of the columns."""
    kind, _ = kind_of(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; name the files of the bank's texts")
    size = path.stat().st_size
    if kind != "parquet":
        next(blocks(Span(path, size), columns, 1), None)
        return [Span(path, size)]
    with _parquet(path) as file:
        check_columns(path, file.schema_arrow.names, columns)
        for name in columns:
            _check_type(path, file.schema_arrow.field(name))
        rows = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    found, first, held = [], 0, 0
    for group, count in enumerate(rows):
        held += count
        if held >= SPAN_ROWS or group == len(rows) - 1:
            found.append(Span(path, size * held // max(1, sum(rows)), first, group + 1, held))
            first, held = group + 1, 0
    return found


def blocks(span: Span, columns: Sequence[str], rows: int = BLOCK_ROWS) -> Iterator[TextBlock]:
    """The text columns of a span, at most ``rows`` rows at a time."""
    kind, _ = kind_of(span.path)
    if kind == "parquet":
        yield from _parquet_blocks(span, columns, rows)
        return
    with span.path.open("rb", buffering=2**20) as raw, _lines(span.path, raw) as lines:
        match kind:
            case "txt":
                found = _plain(lines, span.path, columns)
            case "jsonl":
                found = _json(lines, span.path, columns)
            case _:
                found = _delimited(lines, span.path, columns, kind)
        while block := list(islice(found, rows)):
            yield TextBlock(block, span.size if raw.closed else raw.tell())  # Arrow closes it at its end


def check_columns(where: object, there: Sequence[str], columns: Sequence[str]) -> None:
    """ValueError for one of ``columns`` that is not ``there``; the message begins with ``where``."""
    for name in columns:
        if name not in there:
            raise ValueError(f"{where}: no column {name}; it has {', '.join(there)}; name the columns in text")


# --- Parquet ----------------------------------------------------------------------------------------


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    with path.open("rb") as raw:
        try:
            yield pq.ParquetFile(raw, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(not_parquet(path, error)) from error


def _check_type(path: Path, field: pa.Field) -> None:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise ValueError(f"{path}: column {field.name} is {field.type}; a text must be a string")


def _parquet_blocks(span: Span, columns: Sequence[str], rows: int) -> Iterator[TextBlock]:
    read = 0
    with _parquet(span.path) as file:
        groups = list(range(span.first, span.last))
        for batch in file.iter_batches(rows, groups, list(columns), use_threads=False):
            try:
                values = [batch.column(name).to_pylist() for name in columns]
            except UnicodeDecodeError as error:
                raise ValueError(f"{span.path}: a text is not UTF-8 ({error}); write the file again") from error
            read += batch.num_rows
            yield TextBlock(list(zip(*values, strict=True)), span.size * read / max(1, span.rows))


# --- lines ------------------------------------------------------------------------------------------


@contextmanager
def _lines(path: Path, raw: IO[bytes]) -> Iterator[Iterator[str]]:
    """The decoded lines of a file, each with its line end. ValueError for a truncated file and one that is not
    UTF-8."""
    try:
        yield (decode(line, str(path), number) for number, line in enumerate(_unpacked(path, raw), start=1))
    except (EOFError, OSError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: this file is cut short or damaged ({reason}); copy it again") from error


def _unpacked(path: Path, raw: IO[bytes]) -> Iterable[bytes]:
    """The lines of a file, as bytes."""
    _, compression = kind_of(path)
    match compression:
        case "gz":
            return gzip.GzipFile(fileobj=raw)
        case "bz2":
            return bz2.BZ2File(raw)
        case "xz":
            return lzma.LZMAFile(raw)
        case "zst":
            stream: Any = pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")
            return io.BufferedReader(stream, 2**20)
        case _:
            return raw


def _plain(lines: Iterator[str], path: Path, columns: Sequence[str]) -> Iterator[Row]:
    if len(columns) != 1:
        raise ValueError(
            f"{path}: it has one text per line, but text names {len(columns)} columns; name one, or use a table"
        )
    return ((line,) for line in lines)


def _json(lines: Iterator[str], path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """An object may lack a column, whose value is then None; the first object must have all of them."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            row = json_object(line, f"{path}: line {number}")
            if number == 1:
                check_columns(path, list(row), columns)
            yield tuple(row.get(name) for name in columns)


def _delimited(lines: Iterator[str], path: Path, columns: Sequence[str], kind: str) -> Iterator[Row]:
    """CSV follows RFC 4180; TSV has no quoting, as in ``stages/corpus/sources.py``."""
    csv.field_size_limit(LONGEST_FIELD)
    if kind == "csv":
        reader = csv.reader(lines, strict=True)
    else:
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    try:
        header = next(reader, [])
        check_columns(path, header, columns)
        places = [header.index(name) for name in columns]
        for record in reader:
            if record and len(record) != len(header):
                raise ValueError(
                    f"{path}: line {reader.line_num}: {len(record)} fields; the header has {len(header)}; mend the line"
                )
            if record:
                yield tuple(record[place] for place in places)
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num}: {error}; mend the line, or use Parquet") from error


# --- sizes ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TextSize:
    """Lines and bytes of a text file, after decompression."""

    lines: int
    bytes: int


def text_size(path: Path) -> TextSize:
    """The size of a text file, which is read to its end. ValueError for a file that is cut short or damaged."""
    lines = size = 0
    with path.open("rb", buffering=2**20) as raw:
        try:
            for line in _unpacked(path, raw):
                lines += 1
                size += len(line)
        except (EOFError, OSError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path}: this file is cut short or damaged ({reason}); copy it again") from error
    return TextSize(lines, size)
