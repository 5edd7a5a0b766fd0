"""Reads a data file once and counts what is in each of its columns.

The whole file is read in bounded memory: of each column a few counters and at most ``MOST_VALUES`` different short
values are kept, and of the rows a seeded sample.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stages.corpus.labels import shown
from stages.corpus.sources import Faults
from stages.files.kinds import TABLES, kind_of
from stages.files.rows import DELIMITERS, Row, not_utf8, open_rows, separator_hint, shown_names

MOST_VALUES = 1000
"""Different values of a column that are counted; a column with more is no column of classes."""
LONGEST_VALUE = 200
"""Characters of a value that is counted; a column with longer ones is no column of classes."""
SAMPLE_ROWS = 2000
HEADER_WORDS = 6
"""Words of a name in the header from which on it is taken for a text of the first row."""


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """Counts over the values of one column. ``present``: values that are neither null nor blank; of these, ``texts``
    are strings with a letter and no number, ``numbers`` finite numbers (also written as strings, and booleans), and
    ``whole`` those of them without a fraction. ``words`` is the mean number of words of the texts. ``values``: each
    different value, as it is named as a label, with its rows; None where there are more than ``MOST_VALUES``, or long
    ones. ``rising``: all values are whole numbers and each is greater than the one before, as in a column of row
    numbers."""

    name: str
    present: int
    texts: int
    numbers: int
    whole: int
    words: float
    values: Mapping[str, int] | None
    rising: bool


@dataclass(frozen=True, slots=True)
class TableProfile:
    """A data file: its number of rows, its columns in order, and a seeded sample of its rows (at most ``SAMPLE_ROWS``)
    with the values of these columns. Columns whose name is blank or occurs twice are left out."""

    path: Path
    rows: int
    columns: tuple[ColumnProfile, ...]
    sample: tuple[Row, ...]

    def column(self, name: str) -> ColumnProfile:
        """The column of this name, which must be there."""
        return next(column for column in self.columns if column.name == name)

    def sampled(self, names: Sequence[str]) -> list[tuple[str, ...]]:
        """The values of these columns in the sampled rows, as strings; a null is the empty string."""
        there = [column.name for column in self.columns]
        places = [there.index(name) for name in names]
        return [tuple("" if row[place] is None else str(row[place]) for place in places) for row in self.sample]


def profile_table(path: Path, check_header: bool = True) -> TableProfile:
    """The profile of a data file. ``check_header``: refuse a file whose first line seems to be a row.

    ValueError, of one line that begins with the path, for a file that cannot be read, that has no rows, or that has
    rows which cannot be read; FileNotFoundError if there is no such file.
    """
    names = _column_names(path)
    counts = [_ColumnCounts() for _ in names]
    faults, rows, sample, draw = Faults(), 0, list[Row](), random.Random(0)
    with open_rows(path, names, TABLES) as file:
        for row in file.rows:
            rows += 1
            if row.problem:
                faults.add(row, f": {row.problem}")
                continue
            for column, value in zip(counts, row.values, strict=True):
                column.add(value)
            if len(sample) < SAMPLE_ROWS:
                sample.append(row.values)
            elif (place := draw.randrange(rows)) < SAMPLE_ROWS:
                sample[place] = row.values
    if not rows:
        raise ValueError(f"{path}: no rows; a train split needs at least 1")
    faults.check(str(path), rows)
    columns = tuple(column.profile(name) for name, column in zip(names, counts, strict=True))
    if check_header and kind_of(path, TABLES)[0] in ("csv", "tsv"):
        _check_header(path, columns)
    return TableProfile(path, rows, columns, tuple(sample))


def _column_names(path: Path) -> list[str]:
    """The names of a file's columns that are not blank and occur once. ValueError for a file with another separator,
    and for names that are not UTF-8."""
    with open_rows(path, (), TABLES) as file:
        if kind_of(path, TABLES)[0] == "jsonl":  # whose names are known when all rows have been read
            for _ in file.rows:
                pass
        names = list(file.names)
    wrong = next(filter(None, map(not_utf8, names)), "")
    if wrong:
        raise ValueError(f"{path}: in the header {wrong}")
    for delimiter in DELIMITERS:
        if len(names) == 1 and delimiter in names[0]:
            raise ValueError(
                f"{path}: a single column, {shown_names(names)}{separator_hint(names, names[0].split(delimiter))}"
            )
    return [name for name in names if name.strip() and names.count(name) == 1]


def _check_header(path: Path, columns: Sequence[ColumnProfile]) -> None:
    """ValueError for a table whose first line seems to be a row: a name in it is a number, is long, or is itself one of
    a few values of its column."""
    for column in columns:
        value = column.values or {}
        repeated = value.get(column.name, 0) > 1 and len(value) <= max(2, sum(value.values()) // 5)
        if repeated or _number(column.name) is not None or len(column.name.split()) >= HEADER_WORDS:
            raise ValueError(
                f"{path}: the first line seems to be a row and no header, because one of its names would be "
                f"{shown(column.name)}; begin the file with a line of column names, such as text and label (or name "
                "columns of this line by --text and --label)"
            )


@dataclass
class _ColumnCounts:
    """The counters of a column while it is read."""

    present: int = 0
    texts: int = 0
    numbers: int = 0
    whole: int = 0
    words: int = 0
    values: Counter[tuple[bool, str]] | None = field(default_factory=Counter)
    rising: bool = True
    last: float = -math.inf

    def add(self, value: object) -> None:
        """Count one value."""
        if value is None or (isinstance(value, str) and not value.strip()) or value != value:
            return
        self.present += 1
        number = _number(value)
        whole = number is not None and number.is_integer()
        self.rising = self.rising and number is not None and whole and number > self.last
        if number is not None:
            self.numbers += 1
            self.whole += whole
            self.last = number
        elif isinstance(value, str) and any(map(str.isalpha, value)):
            self.texts += 1
            self.words += len(value.split())
        self._keep(value)

    def _keep(self, value: object) -> None:
        if self.values is None:
            return
        if not isinstance(value, str | int | float):  # a list or a date is no label
            self.values = None
            return
        text = _label_name(value)
        self.values[isinstance(value, str), text] += 1
        if len(text) > LONGEST_VALUE or len(self.values) > MOST_VALUES:
            self.values = None

    def profile(self, name: str) -> ColumnProfile:
        """The counts as a value."""
        return ColumnProfile(
            name,
            self.present,
            self.texts,
            self.numbers,
            self.whole,
            self.words / max(1, self.texts),
            None if self.values is None else self._named_values(self.values),
            self.rising and self.present > 1,
        )

    def _named_values(self, values: Mapping[tuple[bool, str], int]) -> Mapping[str, int]:
        """Value -> rows. Whole numbers, however they are written, are named by their digits where a column has no
        other values."""
        named: Counter[str] = Counter()
        naming: Callable[[str], str] = str
        if self.present == self.whole and not any(text in ("false", "true") for _, text in values):
            naming = _digits
        for (_, text), rows in values.items():
            named[naming(text)] += rows
        return dict(named)


def _number(value: object) -> float | None:
    """The value as a finite number; None where it is not one."""
    if isinstance(value, str):
        # float() takes digits with underscores, and words such as "infinity".
        if not value or "_" in value or not any(map(str.isdigit, value)):
            return None
        try:
            number = float(value)
        except ValueError:
            return None
        return number if math.isfinite(number) else None
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None
    return None


def _digits(text: str) -> str:
    return str(int(float(text)))


def _label_name(value: object) -> str:
    """A value as the name of a label: booleans as ``false`` and ``true``, all else as it is."""
    return str(value).lower() if isinstance(value, bool) else str(value)
