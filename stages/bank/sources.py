"""The files of a bank's texts: which they are, the spans of them that workers read, and blocks of rows.

At most the text columns of one row group, or ``BLOCK_ROWS`` rows, are in memory. ``stages/files`` reads the rows.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.files.kinds import TEXTS, kind_of, not_parquet
from stages.files.rows import FileRow, Row, open_rows, separator_hint, shown_names

BLOCK_ROWS = 32_768
SPAN_ROWS = 262_144


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


def text_files(given: Sequence[Path]) -> list[Path]:
    """The given files, and for each given folder the files of a known kind in it, sorted by name. ValueError for a path
    that does not exist, a file of an unknown kind, and a folder without files of a known kind."""
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = [one for one in sorted(path.iterdir()) if one.is_file() and _is_known(one)]
            if not inside:
                raise ValueError(f"{path}: holds no file of texts; name one of {', '.join(TEXTS)}")
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
    """The text columns of a span, at most ``rows`` rows at a time. ValueError for the first row that cannot be read."""
    path, kind = span.path, kind_of(span.path)[0]
    if kind == "txt" and len(columns) != 1:
        raise ValueError(
            f"{path}: it has one text per line, but text names {len(columns)} columns; name one, or use a table"
        )
    read = 0
    with open_rows(path, columns, groups=range(span.first, span.last) if kind == "parquet" else None) as file:
        if kind != "jsonl":
            check_columns(path, file.names, columns)
        while block := [_texts(path, row) for row in islice(file.rows, rows)]:
            if not read:  # by now the first object of JSON lines is read, which must have all columns
                check_columns(path, file.names, columns)
            read += len(block)
            if kind == "parquet":
                yield TextBlock(block, span.size * read / max(1, span.rows))
            elif file.raw is None or file.raw.closed:  # Arrow closes a compressed file at its end
                yield TextBlock(block, span.size)
            else:
                yield TextBlock(block, file.raw.tell())


def _texts(path: Path, row: FileRow) -> Row:
    if row.problem:
        raise ValueError(f"{path}: {f'line {row.line}' if row.line else row.place}: {row.problem}")
    return row.values


def check_columns(where: object, there: Sequence[str], columns: Sequence[str]) -> None:
    """ValueError for one of ``columns`` that is not ``there``; the message begins with ``where``."""
    for name in columns:
        if name not in there:
            hint = separator_hint(there, columns) or "; name the columns in text"
            raise ValueError(f"{where}: no column {name}; it has {shown_names(there)}{hint}")


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
