"""The rows of a data file for which a model predicts: which columns are its texts, and whether all rows can be used."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from stages.corpus.sources import Faults, RowCheck
from stages.deployment.description import ModelDescription
from stages.files.kinds import TEXTS, kind_of
from stages.files.rows import FileRow, open_rows, separator_hint, shown_names

SAMPLED = 100
"""Rows that are read to find out which columns hold texts."""

CHUNK = 1024
"""Rows that are predicted at once: enough to find rows of similar length, and small in memory. A cluster's workers get
so many at a time, and which rows a model computes together follows from it alone, wherever it runs."""

TextRow = tuple[str, ...]


def text_columns(path: Path, description: ModelDescription, wanted: Sequence[str]) -> tuple[str, ...]:
    """The columns of a file that are the model's texts: ``wanted``, or else those of its task. Raises ValueError where
    the file does not have them, and where neither names any; the message lists the columns that hold texts."""
    if kind_of(path, TEXTS)[0] == "txt":
        return tuple(wanted) or UNNAMED
    columns = _columns(path)
    chosen = tuple(wanted) or (description.task.text if description.text_known else ())
    count = len(description.task.text)
    if wanted and description.text_known and len(wanted) != count:
        raise ValueError(f"--text: {', '.join(wanted)}, but the model reads {count} texts a row; give {count} columns")
    if len(chosen) > 2:
        raise ValueError(f"--text: {', '.join(chosen)}; a model reads one text or two, so give one column or two")
    if chosen and all(name in columns for name in chosen):
        return chosen
    texts = [name for name in columns if _holds_texts(path, name)]
    candidates = f"columns with texts: {shown_names(texts)}" if texts else f"its columns: {shown_names(columns)}"
    if not chosen:
        raise ValueError(f"{path}: the model's directory does not name its text columns; give --text ({candidates})")
    missing = next(name for name in chosen if name not in columns)
    hint = separator_hint(columns, chosen) or f"; give --text ({candidates})"
    raise ValueError(f"{path}: no column {missing}{hint}")


UNNAMED = ("text",)
"""The name of the lines of a file without columns."""


def count_rows(path: Path, description: ModelDescription) -> int:
    """The number of rows of a file, all of which were read: their texts are strings. Raises ValueError for a file that
    cannot be read to its end, has no rows, or has rows that cannot be used; the message counts these and names the
    first."""
    check, faults, count = RowCheck(description.task, "test"), Faults(), 0
    for row in _file_rows(path, description):
        count += 1
        problem = check(row)[1]
        if problem:
            faults.add(row, problem)
    if not count:
        raise ValueError(f"{path}: no rows; give a file with at least 1")
    faults.check(str(path), count)
    return count


def read_texts(path: Path, description: ModelDescription) -> Iterator[list[TextRow]]:
    """The texts of a file that ``count_rows`` found good, in order, in lists of at most ``CHUNK`` rows."""
    rows = (tuple(map(str, row.values[:-1])) for row in _file_rows(path, description))
    while chunk := list(islice(rows, CHUNK)):
        yield chunk


class TextChunks(Sequence[list[TextRow]]):
    """The lists of ``read_texts`` as a sequence of known length, for workers that are given them in nearly this order:
    the file is read when an item beyond those read so far is wanted, and an item is kept until it is ``forgotten``."""

    def __init__(self, path: Path, description: ModelDescription, rows: int) -> None:
        """``rows``: those of the file, as ``count_rows`` has found."""
        self._count = -(-rows // CHUNK)
        self._texts = read_texts(path, description)
        self._kept: dict[int, list[TextRow]] = {}
        self._read = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        """The chunk of this number. IndexError beyond the last one; KeyError for one that was forgotten."""
        if not 0 <= index < self._count:
            raise IndexError(index)
        while self._read <= index:
            self._kept[self._read] = next(self._texts)
            self._read += 1
        return self._kept[index]

    def forget(self, index: int) -> None:
        """Free the chunk of this number, which is not wanted again."""
        del self._kept[index]


def _file_rows(path: Path, description: ModelDescription) -> Iterator[FileRow]:
    """The rows with the values of the text columns, and None in the place of a label."""
    with open_rows(path, description.task.text) as file:
        for row in file.rows:
            yield row if row.problem else row._replace(values=(*row.values, None))


def _columns(path: Path) -> list[str]:
    """The names of a file's columns; for JSON lines, those of the first rows."""
    with open_rows(path, ()) as file:
        for _ in islice(file.rows, SAMPLED):
            pass
        return list(file.names)


def _holds_texts(path: Path, name: str) -> bool:
    """Whether the first values of a column are strings, and not all of them numbers."""
    with open_rows(path, (name,)) as file:
        values = [row.values[0] for row in islice(file.rows, SAMPLED) if row.values and row.values[0] is not None]
    return bool(values) and all(isinstance(value, str) for value in values) and not all(map(_is_number, values))


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True
