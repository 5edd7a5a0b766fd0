"""Reads the rows of a data file as a stream, with what is wrong with single rows beside them.

What is wrong with a whole file (its kind, encoding, compression, columns) is a ValueError, whose message is one line
that begins with the path. What is wrong with one row is a problem of that row, so that a reader may count the bad rows
of a file and name the first ones.

At most one batch of a Parquet file, or one record of another file, is in memory.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from stages.files.kinds import TEXTS, check_content, check_regular, kind_of, not_parquet

LONGEST_FIELD = 2**26
"""Characters of the longest field of a CSV or TSV file, so that a quote without an end does not fill the memory."""
BATCH_ROWS = 8192
DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}

Row = tuple[object, ...]


class FileRow(NamedTuple):
    """A row of a file. ``number`` counts rows from 1; ``line`` is the number of its last line in a text file, 0 in any
    other. ``values`` are those of the columns that were requested, None where the row lacks one. If the row cannot be
    read, ``problem`` says why, and ``values`` is empty."""

    number: int
    line: int
    values: Row
    problem: str = ""

    @property
    def place(self) -> str:
        """The row in messages, such as ``row 3``; with its line where that is another number."""
        return f"row {self.number}" + (f" (line {self.line})" if self.line not in (0, self.number) else "")


@dataclass(frozen=True, slots=True)
class FileRows:
    """An open source of rows. ``names`` are the columns that it has; of JSON lines, those of the objects read so far.
    ``raw`` is the file on disk, if it is one, whose position tells how much of it has been read."""

    names: list[str]
    rows: Iterator[FileRow]
    raw: IO[bytes] | None = None


@contextmanager
def open_rows(
    path: Path, columns: Sequence[str], kinds: Sequence[str] = TEXTS, groups: Sequence[int] | None = None
) -> Iterator[FileRows]:
    """The rows of a file of one of ``kinds``: the values of ``columns``. ``groups``: only these row groups of a Parquet
    file. Text files are in UTF-8.

    CSV follows RFC 4180. TSV has no quoting, as in the files of GLUE: a field ends at a tab or at the end of the line.
    Lines of a ``.txt`` file are the values of the first column, whatever its name.

    ValueError for a file as a whole, also while its rows are read; FileNotFoundError if there is none.
    """
    check_regular(path)
    kind, compression = kind_of(path, kinds)
    check_content(path, kind, compression)
    with path.open("rb", buffering=2**20) as raw:
        if kind == "parquet":
            yield _parquet(path, raw, columns, groups)
            return
        # A line end in the middle of a text is part of it, but where a table's format is by lines.
        newline = "" if kind in ("csv", "tsv") else "\n"
        stream = io.TextIOWrapper(unpacked(raw, compression), "utf-8-sig", "surrogateescape", newline)
        lines = _whole(path, stream)
        match kind:
            case "txt":
                yield FileRows(list(columns[:1]), _plain(lines), raw)
            case "jsonl":
                names: list[str] = []
                yield FileRows(names, _json(lines, columns, names), raw)
            case _:
                yield _delimited(path, lines, columns, kind, raw)


# --- text files -----------------------------------------------------------------------------------


def unpacked(raw: IO[bytes], compression: str) -> Any:
    """The decompressed bytes of a file."""
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


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Re-raise as ValueError, of one line that names the file, what the block meets in a file that cannot be read to
    its end or ends before its compression does."""
    try:
        yield
    except (EOFError, OSError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        remedy = "copy it again, or name it by its kind if it is not compressed"
        raise ValueError(f"{path}: this file is cut short or damaged ({reason}); {remedy}") from error


def _whole(path: Path, lines: Iterator[str]) -> Iterator[str]:
    """The lines. ValueError for a file that ends before its compression does."""
    with damage_named(path):
        yield from lines


def not_utf8(text: str) -> str:
    """What is wrong with a text that was decoded from bytes that are not UTF-8; "" for any other text."""
    if text.isascii():
        return ""
    for letter in text:
        if "\udc80" <= letter <= "\udcff":
            return f"byte 0x{ord(letter) - 0xDC00:02x} is not UTF-8; save the file as UTF-8"
    return ""


def _plain(lines: Iterator[str]) -> Iterator[FileRow]:
    for number, line in enumerate(lines, start=1):
        problem = not_utf8(line)
        yield FileRow(number, number, () if problem else (line,), problem)


def _json(lines: Iterator[str], columns: Sequence[str], names: list[str]) -> Iterator[FileRow]:
    number, known = 0, set[str]()
    for line_number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        number += 1
        problem = not_utf8(line)
        if not problem:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                problem = f"not JSON ({str(error).splitlines()[0]}); a line must be one JSON object"
            else:
                if not isinstance(row, dict):
                    problem = f"a {type(row).__name__}; a line must be one JSON object"
        if problem:
            yield FileRow(number, line_number, (), problem)
            continue
        if not known.issuperset(row):
            names += [name for name in row if name not in known]
            known.update(row)
        yield FileRow(number, line_number, tuple([row.get(name) for name in columns]))


def _delimited(path: Path, lines: Iterator[str], columns: Sequence[str], kind: str, raw: IO[bytes]) -> FileRows:
    csv.field_size_limit(LONGEST_FIELD)
    reader = _tab_reader(lines) if kind == "tsv" else csv.reader(lines, strict=True)
    try:
        header: list[str] = next(reader, [])
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num}: {_csv_problem(error, 1)}") from error
    for name in columns:
        if header.count(name) > 1:
            raise ValueError(f"{path}: {header.count(name)} columns are called {name}; a name must be there once")
    places = [header.index(name) if name in header else None for name in columns]
    return FileRows(header, _records(reader, len(header), places), raw)


def _tab_reader(lines: Iterator[str]) -> Any:
    return csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)


def _records(reader: Any, width: int, places: Sequence[int | None]) -> Iterator[FileRow]:
    number = 0
    while True:
        start = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            number += 1
            yield FileRow(number, reader.line_num, (), _csv_problem(error, start))
            continue
        if not record:
            continue
        number += 1
        if len(record) != width:
            yield FileRow(number, reader.line_num, (), f"{len(record)} fields; the header has {width}")
            continue
        values = tuple([None if place is None else record[place] for place in places])
        yield FileRow(number, reader.line_num, values)


def _csv_problem(error: Exception, start: int) -> str:
    if "unexpected end of data" in str(error) or "field larger than" in str(error):
        return f"{error}: a quote that is opened in line {start} has no end; mend the line, or use Parquet"
    return f"{error}; mend the line, or use Parquet"


def shown_names(names: Sequence[str], most: int = 20) -> str:
    """Column names in a message: quoted where a name holds what cannot be seen, at most the first ``most``."""
    shown = [
        name if name.isprintable() and name == name.strip() and name else repr(name)[:100] for name in names[:most]
    ]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")


def separator_hint(names: Sequence[str], columns: Sequence[str]) -> str:
    """The end of a message about missing columns: that another separator is probable. "" if it is not."""
    for delimiter, called in DELIMITERS.items():
        if len(names) == 1 and delimiter in names[0] and set(columns) & set(names[0].split(delimiter)):
            named = ".csv, and those with tabs .tsv" if delimiter in ",\t" else ".csv"
            return (
                f"; its columns are separated by {called}: separate them by commas (files with commas end in {named})"
            )
    return ""


# --- Parquet --------------------------------------------------------------------------------------


def _parquet(path: Path, raw: IO[bytes], columns: Sequence[str], groups: Sequence[int] | None) -> FileRows:
    try:
        file = pq.ParquetFile(raw, pre_buffer=False)
        names = list(file.schema_arrow.names)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(not_parquet(path, error)) from error
    for name in columns:
        if names.count(name) > 1:
            raise ValueError(f"{path}: {names.count(name)} columns are called {name}; a name must be there once")
    return FileRows(names, _parquet_rows(path, file, [name for name in columns if name in names], columns, groups), raw)


def _parquet_rows(
    path: Path, file: Any, there: Sequence[str], columns: Sequence[str], groups: Sequence[int] | None
) -> Iterator[FileRow]:
    number = 0
    # Without any of the columns, there are still rows to be counted.
    chosen = range(file.num_row_groups) if groups is None else groups
    try:
        for batch in file.iter_batches(BATCH_ROWS, list(chosen), list(there), use_threads=False):
            values = {name: _values(batch.column(place)) for place, name in enumerate(there)}
            absent = [None] * batch.num_rows
            for row in zip(*(values.get(name, absent) for name in columns), strict=True):
                number += 1
                yield FileRow(number, 0, row)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(not_parquet(path, error)) from error


def _values(column: pa.Array) -> Sequence[object]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        # As text files are decoded, so that each bad row is known; the result is refused like theirs.
        raw = column.cast(pa.binary()) if not pa.types.is_dictionary(column.type) else column.dictionary_decode()
        return [_decoded(value) for value in raw.cast(pa.binary()).to_pylist()]


def _decoded(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "surrogateescape")
