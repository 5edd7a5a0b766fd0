"""Reads the rows of one split of a task from a file, the hub or the demo's generator, and checks them.

The result is a table with index, row_key, label and the task's text columns. An error in the data is a ValueError whose
message is one line: the file, the row (counted from 1), the column, the value, and what would be right.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from stages.corpus.labels import parse_labels
from stages.corpus.row_key import KEY_BYTES, row_key
from stages.corpus.task_files import FORMATS, not_parquet
from stages.specs.corpus import Hub
from stages.specs.tasks import HUB, Task

SourceRole = Literal["train", "dev", "test"]


@dataclass(frozen=True, slots=True)
class SourceColumns:
    """Unchecked columns: ``values[name][row]``. ``origin`` begins each error message; ``names`` are all columns of the
    source, including those that were not read."""

    origin: str
    rows: int
    names: tuple[str, ...]
    values: Mapping[str, Sequence[object]]


def read_rows(columns: SourceColumns, task: Task, role: SourceRole) -> pa.Table:
    """The table of one split; a label is null where it is not public. ``columns`` have the task's names.

    ValueError for wrong data. A train split needs a label in every row, a dev split in at least one; a test split may
    lack the label column.
    """
    if not columns.rows:
        raise ValueError(f"{columns.origin}: no rows; a {role} split needs at least 1")
    needed = task.text if role == "test" else (*task.text, task.label)
    for name in needed:
        if name not in columns.values:
            raise ValueError(f"{columns.origin}: no column {name}; it has {', '.join(columns.names)}")
    texts = [_texts(columns, name) for name in task.text]
    labels = _labels(columns, task, role)
    return pa.table(
        {
            "index": pa.array(range(columns.rows), pa.int64()),
            "row_key": pa.array([row_key(row) for row in zip(*texts, strict=True)], pa.binary(KEY_BYTES)),
            "label": pa.array(labels, pa.float32() if task.regression else pa.int64()),
            **{name: pa.array(text, pa.string()) for name, text in zip(task.text, texts, strict=True)},
        }
    )


def _texts(columns: SourceColumns, name: str) -> Sequence[str]:
    checked: list[str] = []
    for row, value in enumerate(columns.values[name], start=1):
        if not isinstance(value, str):
            found = "null" if value is None else f"{value!r}, a {type(value).__name__}"
            raise ValueError(f"{columns.origin}: row {row}, column {name}: {found}; a text must be a string")
        if not value.isascii():
            _check_encodes(value, f"{columns.origin}: row {row}, column {name}")
        checked.append(value)
    return checked


def _check_encodes(text: str, where: str) -> None:
    """ValueError for half a surrogate pair, which JSON can escape but UTF-8 cannot encode."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = text[error.start]
        raise ValueError(f"{where}: {half!r} is half a surrogate pair; write the whole character") from error


def _labels(columns: SourceColumns, task: Task, role: SourceRole) -> list[int | float | None]:
    if task.label not in columns.values:
        return [None] * columns.rows
    labels = parse_labels(columns.values[task.label], task, columns.origin)
    hidden = labels.count(None)
    if role == "train" and hidden:
        row = labels.index(None) + 1
        raise ValueError(f"{columns.origin}: row {row}, column {task.label}: no label; a train split needs them all")
    if role == "dev" and hidden == len(labels):
        raise ValueError(f"{columns.origin}: column {task.label}: no row has a label; a dev split needs labels")
    return labels


# --- files --------------------------------------------------------------------------------------


def read_file(path: Path, names: Sequence[str]) -> SourceColumns:
    """Those of the columns ``names`` that a Parquet, CSV, TSV or JSON-lines file has. Text files are in UTF-8.

    CSV follows RFC 4180. TSV has no quoting, as in the files of GLUE: a field ends at a tab or at the end of the line.
    """
    match path.suffix:
        case ".parquet":
            return _read_parquet(path, names)
        case ".csv":
            return _read_delimited(path, names, delimiter=",", quoting=csv.QUOTE_MINIMAL)
        case ".tsv":
            return _read_delimited(path, names, delimiter="\t", quoting=csv.QUOTE_NONE)
        case ".jsonl":
            return _read_json_lines(path, names)
        case _:
            raise ValueError(f"{path}: unknown kind of file {path.suffix!r}; use one of {', '.join(FORMATS)}")


def _read_parquet(path: Path, names: Sequence[str]) -> SourceColumns:
    with path.open("rb") as file:
        try:
            parquet = pq.ParquetFile(file)
            there = tuple(parquet.schema_arrow.names)
            table = parquet.read(columns=[name for name in names if name in there])
        except (pa.ArrowException, OSError) as error:
            raise ValueError(not_parquet(path, error)) from error
    values = {name: _values(table.column(name), name, path) for name in table.column_names}
    return SourceColumns(str(path), table.num_rows, there, values)


def _values(column: pa.ChunkedArray, name: str, path: Path) -> Sequence[object]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError as error:
        for row, value in enumerate(column.cast(pa.binary()).to_pylist(), start=1):
            decode(value or b"", f"{path}: row {row}, column {name}")
        raise AssertionError("a column that does not decode has a row that does not") from error


def decode(data: bytes, where: str, first_line: int = 1) -> str:
    """Decode UTF-8 with or without a byte-order mark. ValueError with the line number, counted from ``first_line``, for
    other data; the message begins with ``where``."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + first_line
        byte = f"0x{data[error.start]:02x}"
        raise ValueError(f"{where}: line {line}, byte {byte} is not UTF-8; save the file as UTF-8") from error


def _read_delimited(path: Path, names: Sequence[str], delimiter: str, quoting: Literal[0, 3]) -> SourceColumns:
    text = decode(path.read_bytes(), str(path))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    try:
        header = next(reader, [])
        records = [record for record in reader if record]
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num}: {error}; mend the line, or use Parquet") from error
    for row, record in enumerate(records, start=1):
        if len(record) != len(header):
            raise ValueError(f"{path}: row {row}: {len(record)} fields; the header has {len(header)}")
    for name in names:
        if header.count(name) > 1:
            raise ValueError(f"{path}: {header.count(name)} columns are called {name}; a name must be there once")
    places = {name: header.index(name) for name in names if name in header}
    values = {name: [record[place] for record in records] for name, place in places.items()}
    return SourceColumns(str(path), len(records), tuple(header), values)


def _read_json_lines(path: Path, names: Sequence[str]) -> SourceColumns:
    objects: list[dict[str, object]] = []
    for number, line in enumerate(decode(path.read_bytes(), str(path)).split("\n"), start=1):
        if line.strip():
            objects.append(json_object(line, f"{path}: line {number}"))
    there = tuple(dict.fromkeys(name for row in objects for name in row))
    values = {name: [row.get(name) for row in objects] for name in names if name in there}
    return SourceColumns(str(path), len(objects), there, values)


def json_object(line: str, where: str) -> dict[str, object]:
    """The object in one line of a JSON-lines file. ValueError for a line that is not a JSON object."""
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: not JSON ({error}); a line must be one JSON object") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where}: a {type(value).__name__}; a line must be one JSON object")
    return value


# --- the hub, and generated rows ------------------------------------------------------------------


def read_hub(source: Hub, task: Task) -> dict[str, SourceColumns]:
    """The task's splits in a data set of the hub, at the given commit. Test splits may be missing.

    Columns of a built-in task are renamed to the task's names. Code in the data set's repository is not run.
    """
    import datasets

    loaded = datasets.load_dataset(source.repository, source.config, revision=source.revision)
    found: dict[str, SourceColumns] = {}
    for split in (task.train, *task.dev, *task.test):
        if split in loaded:
            found[split] = _hub_columns(loaded[split], f"{source.repository} {split}", task, source.repository)
        elif split not in task.test:
            there = ", ".join(sorted(loaded))
            raise ValueError(f"source: {source.repository} has no split {split} for {task.name}; it has {there}")
    return found


def _hub_columns(dataset: Any, origin: str, task: Task, repository: str) -> SourceColumns:
    renamed = _hub_names(task, repository)
    there = [theirs for theirs in renamed.values() if theirs in dataset.column_names]
    table = dataset.select_columns(there).to_dict()
    values = {ours: table[theirs] for ours, theirs in renamed.items() if theirs in there}
    names = getattr(dataset.features.get(renamed[task.label]), "names", None)
    if names is not None and task.labels is not None and sorted(names) == sorted(task.labels):
        values[task.label] = [names[label] if label >= 0 else None for label in values[task.label]]
    return SourceColumns(origin, len(dataset), tuple(dataset.column_names), values)


def _hub_names(task: Task, repository: str) -> dict[str, str]:
    """The task's names of its columns -> the data set's names."""
    place = HUB.get(task.name)
    known = place if place is not None and place.repository == repository else None
    texts = known.text if known is not None and known.text is not None else task.text
    label = known.label if known is not None and known.label is not None else task.label
    return dict(zip((*task.text, task.label), (*texts, label), strict=True))


def generated_columns(rows: Sequence[Mapping[str, object]], split: str, task: Task) -> SourceColumns:
    """Rows of the demo's generator as columns."""
    names = (*task.text, task.label)
    return SourceColumns(f"generated {split}", len(rows), names, {name: [row[name] for row in rows] for name in names})
