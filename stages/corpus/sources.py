"""The rows of one split of a task, from a file, the hub or the demo's generator, read as a stream and checked.

What is wrong with a split is a ValueError of one line: the file, how many rows are bad, the first of them (counted from
1) with column and value, and what would be right. The whole split is read for it, in bounded memory.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, assert_never, cast

import pyarrow as pa

from stages.corpus.labels import LabelParser, all_hidden, label_type, shown
from stages.corpus.row_key import KEY_BYTES, row_key
from stages.files.kinds import TABLES
from stages.files.rows import FileRow, FileRows, not_utf8, open_rows, separator_hint, shown_names
from stages.specs.corpus import Files, Generated, Hub, Source
from stages.specs.tasks import BUILT_IN, HUB, Task
from stages.tagging.column_files import is_column_file
from stages.tagging.sentences import SentenceCheck, SentenceColumns, open_sentences, row_text, words_of

SourceRole = Literal["train", "dev", "test"]
BLOCK_ROWS = 1024
FAULTS_NAMED = 3
"""Bad rows of a split that its error message describes; the others are counted."""


RowLabel = int | float | tuple[int, ...] | None
"""The label of a row, or the labels of its words."""


@dataclass(frozen=True, slots=True)
class SplitSource:
    """A split that has not been read. ``open`` gives its rows: the values of the task's text columns, then the label.
    ``origin`` begins each error message."""

    origin: str
    open: Callable[[], AbstractContextManager[FileRows]]


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """Some rows of a split. ``numbers`` counts them from 0 in the split; ``texts`` has one tuple for each, in which
    words with labels are one text as ``row_text`` writes it; a label is None where it is not public."""

    numbers: Sequence[int]
    texts: Sequence[tuple[str, ...]]
    labels: Sequence[RowLabel]


@dataclass
class Faults:
    """The bad rows of a split: how many, and the first of them in words."""

    count: int = 0
    first: list[str] = field(default_factory=list)
    last: str = ""

    def add(self, row: FileRow, problem: str) -> None:
        """Count the row, and keep the description of an early one."""
        self.count += 1
        if len(self.first) < FAULTS_NAMED:
            self.first.append(f"{row.place}{problem if problem != self.last else ' likewise'}")
            self.last = problem

    def check(self, origin: str, rows: int) -> None:
        """ValueError if there are any, where the split has ``rows`` rows."""
        if self.count == 1:
            raise ValueError(f"{origin}: {self.first[0]}")
        if self.count:
            more = f"; and {self.count - len(self.first):,} more" if self.count > len(self.first) else ""
            raise ValueError(f"{origin}: {self.count:,} of {rows:,} rows cannot be used: {'; '.join(self.first)}{more}")


def checked_rows(source: SplitSource, task: Task, role: SourceRole) -> Iterator[CheckedRows]:
    """The rows of a split, in order, in blocks. They are complete only if the iterator ends without an error.

    ValueError for wrong data, at the end if single rows are wrong. A train split needs a label in every row, a dev
    split in at least one; a test split may lack the label column. Where a regression has the label -1 in all rows, no
    label is public, which the reader of the whole split has to look for (``all_hidden``).
    """
    needed = task.text if role == "test" else (*task.text, task.label)
    check, faults, count, public = row_check(task, role), Faults(), 0, 0
    with source.open() as file:
        if file.names:  # those of JSON lines are known at the end
            _check_columns(source.origin, file.names, needed)
        while block := list(islice(file.rows, BLOCK_ROWS)):
            numbers: list[int] = []
            texts: list[tuple[str, ...]] = []
            labels: list[RowLabel] = []
            for row in block:
                label, problem = check(row)
                if problem:
                    faults.add(row, problem)
                    continue
                numbers.append(row.number - 1)
                texts.append(check.texts(row))
                labels.append(label)
            count += len(block)
            public += len(labels) - labels.count(None)
            yield CheckedRows(numbers, texts, labels)
        names = list(file.names)
    if not count:
        raise ValueError(f"{source.origin}: no rows; a {role} split needs at least 1")
    if names:  # there are none if no line of JSON lines could be read
        _check_columns(source.origin, names, needed)
    faults.check(source.origin, count)
    if role == "dev" and not public:
        raise ValueError(f"{source.origin}: column {task.label}: no row has a label; a dev split needs labels")


def row_check(task: Task, role: SourceRole) -> "RowCheck | WordRowCheck":
    """What checks the rows of a split of a task."""
    return WordRowCheck(task, role) if task.kind.has_entries else RowCheck(task, role)


class RowCheck:
    """Checks the rows of one split: texts must be strings that UTF-8 can encode, labels those of the task."""

    def __init__(self, task: Task, role: SourceRole) -> None:
        self._task = task
        self._role = role
        self._parse = LabelParser(task)

    def texts(self, row: FileRow) -> tuple[str, ...]:
        """The texts of a row in which nothing is wrong."""
        return cast(tuple[str, ...], row.values[:-1])

    def __call__(self, row: FileRow) -> tuple[int | float | None, str]:
        """(label, ""), or (None, what is wrong with the row)."""
        problem = f": {row.problem}" if row.problem else _text_problem(row.values, self._task.text)
        if problem:
            return None, problem
        try:
            label = self._parse(row.values[-1])
        except ValueError as error:
            return None, f", column {self._task.label}: {error}"
        if label is None and self._role == "train":
            given = shown(row.values[-1])
            return None, f", column {self._task.label}: no label ({given}); a train split needs them all"
        return label, ""


class WordRowCheck:
    """Checks the rows of one split in which words have labels: words must be strings, tags those of the task in
    its scheme."""

    def __init__(self, task: Task, role: SourceRole) -> None:
        assert task.labels is not None
        self._role = role
        self._check = SentenceCheck(task.labels, task.scheme)

    def texts(self, row: FileRow) -> tuple[str, ...]:
        """The words of a row in which nothing is wrong, as one text."""
        return (row_text(cast(list[str], row.values[0])),)

    def __call__(self, row: FileRow) -> tuple[tuple[int, ...] | None, str]:
        """(tags, ""), or (None, what is wrong with the row)."""
        sentence, problem = self._check(row)
        if sentence is None:
            return None, f": {problem}"
        if sentence.tags is None and self._role == "train":
            return None, ": no tags; a train split needs them all"
        return sentence.tags, ""


def _check_columns(origin: str, names: Sequence[str], needed: Sequence[str]) -> None:
    for name in needed:
        if name not in names:
            wrong = next(filter(None, map(not_utf8, names)), "")
            if wrong:
                raise ValueError(f"{origin}: no column {name}, and in the header {wrong}")
            hint = separator_hint(names, needed)
            raise ValueError(f"{origin}: no column {name}; it has {shown_names(names)}{hint}")


def _text_problem(values: Sequence[object], names: Sequence[str]) -> str:
    for name, value in zip(names, values, strict=False):
        if not isinstance(value, str):
            found = "null" if value is None else f"{shown(value)}, a {type(value).__name__}"
            return f", column {name}: {found}; a text must be a string"
        if not value.isascii():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError as error:
                problem = (
                    not_utf8(value) or f"{value[error.start]!r} is half a surrogate pair; write the whole character"
                )
                return f", column {name}: {problem}"
    return ""


def read_rows(source: SplitSource, task: Task, role: SourceRole) -> pa.Table:
    """The table of one split: index, row_key, label and the task's text columns; a label is null where it is not
    public. ValueError for wrong data (``checked_rows``)."""
    kind, words = label_type(task), task.kind.has_entries
    text = pa.list_(pa.string()) if words else pa.string()
    schema = pa.schema(
        {"index": pa.int64(), "row_key": pa.binary(KEY_BYTES), "label": kind} | dict.fromkeys(task.text, text)
    )
    parts, hidden = [], task.regression
    for block in checked_rows(source, task, role):
        given = list(zip(*block.texts, strict=True)) or [() for _ in task.text]
        columns = [pa.array(map(words_of, column) if words else column, text) for column in given]
        keys = pa.array(map(row_key, block.texts), pa.binary(KEY_BYTES))
        hidden = hidden and all_hidden(block.labels, task)
        parts.append(
            pa.table([pa.array(block.numbers, pa.int64()), keys, pa.array(block.labels, kind), *columns], schema=schema)
        )
    table = pa.concat_tables(parts).combine_chunks()
    if not hidden:
        return table
    if role != "test":
        raise ValueError(f"{source.origin}: column {task.label}: no row has a label; a {role} split needs labels")
    return table.set_column(2, schema.field("label"), pa.nulls(len(table), kind))


def split_role(task: Task, split: str) -> SourceRole:
    """What a split of the data is for."""
    return "train" if split == task.train else "dev" if split in task.dev else "test"


def split_sources(source: Source, task: Task, files: Mapping[str, Path]) -> Mapping[str, SplitSource]:
    """Split -> its source, for the task's splits that there are. ``files``: the file of each split, for ``Files``.
    ValueError where a train or dev split is missing."""
    match source:
        case Files():
            return _file_sources(task, files)
        case Hub():
            return hub_sources(source, task)
        case Generated(seed=seed, train=train, validation=validation, test=test):
            from stages.corpus.demo.reviews import generate

            splits = generate(seed=seed, train=train, validation=validation, test=test)
            return {name: generated_source(rows, name, task) for name, rows in splits.items()}
        case _:
            assert_never(source)


# --- files --------------------------------------------------------------------------------------


def _file_sources(task: Task, files: Mapping[str, Path]) -> dict[str, SplitSource]:
    for split in (task.train, *task.dev):
        if split not in files:
            needed = ", ".join((task.train, *task.dev))
            raise ValueError(f"data/{split}: no file; {task.name} needs the splits {needed}")
    there = [split for split in (task.train, *task.dev, *task.test) if split in files]
    return {split: file_source(files[split], task) for split in there}


def file_source(path: Path, task: Task) -> SplitSource:
    """A split in a data file. ValueError for a kind of file that has no columns, when it is opened."""
    if task.kind.has_entries:
        return SplitSource(str(path), lambda: _sentence_rows(path, task))
    return SplitSource(str(path), lambda: open_rows(path, (*task.text, task.label), TABLES))


@contextmanager
def _sentence_rows(path: Path, task: Task) -> Iterator[FileRows]:
    """The rows of a file of sentences. Those of a column file have no names of columns, and get the task's."""
    (words,) = task.text
    with open_sentences(path, SentenceColumns(words, task.label)) as file:
        yield FileRows([words, task.label], file.rows, file.raw) if is_column_file(path) else file


# --- the hub, and generated rows ------------------------------------------------------------------


def hub_sources(source: Hub, task: Task) -> dict[str, SplitSource]:
    """The task's splits in a data set of the hub, at the given commit. Test splits may be missing.

    Columns of a built-in task are renamed to the task's names. Code in the data set's repository is not run.
    """
    import datasets

    datasets.disable_progress_bars()  # which would be drawn through the output of a plan or a run
    try:
        loaded = datasets.load_dataset(source.repository, source.config, revision=source.revision)
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{source.repository} cannot be read from the hub ({reason}); give a folder of files"
        ) from error
    found: dict[str, SplitSource] = {}
    for split in (task.train, *task.dev, *task.test):
        if split in loaded:
            found[split] = _hub_source(loaded[split], f"{source.repository} {split}", task, source.repository)
        elif split not in task.test:
            there = ", ".join(sorted(loaded))
            raise ValueError(f"{source.repository} has no split {split} for {task.name}; it has {there}")
    return found


def _hub_source(dataset: Any, origin: str, task: Task, repository: str) -> SplitSource:
    renamed = _hub_names(task, repository)
    there = {ours: theirs for ours, theirs in renamed.items() if theirs in dataset.column_names}
    names = getattr(dataset.features.get(renamed[task.label]), "names", None)
    if names is None or task.labels is None or sorted(names) != sorted(task.labels):
        names = None
    # A column under the data set's own name is named so in messages.
    shown = [*there, *(name for name in dataset.column_names if name not in there.values())]

    def rows() -> Iterator[FileRow]:
        number = 0
        for batch in dataset.select_columns(list(there.values())).iter(BLOCK_ROWS):
            values = {ours: batch[theirs] for ours, theirs in there.items()}
            if names is not None and task.label in values:
                values[task.label] = [names[label] if label >= 0 else None for label in values[task.label]]
            absent = [None] * len(next(iter(values.values()), ()))
            for row in zip(*(values.get(name, absent) for name in (*task.text, task.label)), strict=True):
                number += 1
                yield FileRow(number, 0, row)

    return SplitSource(origin, lambda: _opened(shown, rows()))


def _hub_names(task: Task, repository: str) -> dict[str, str]:
    """The task's names of its columns -> the data set's names. A task of the user's own names the latter itself."""
    place, built_in = HUB.get(task.name), BUILT_IN.get(task.name)
    renamed = built_in is not None and (task.text, task.label) == (built_in.text, built_in.label)
    known = place if renamed and place is not None and place.repository == repository else None
    texts = known.text if known is not None and known.text is not None else task.text
    label = known.label if known is not None and known.label is not None else task.label
    return dict(zip((*task.text, task.label), (*texts, label), strict=True))


def generated_source(rows: Sequence[Mapping[str, object]], split: str, task: Task) -> SplitSource:
    """A split that the demo's generator made."""
    names = (*task.text, task.label)
    numbered = (FileRow(number, 0, tuple(row[name] for name in names)) for number, row in enumerate(rows, start=1))
    return SplitSource(f"generated {split}", lambda: _opened(list(names), numbered))


@contextmanager
def _opened(names: list[str], rows: Iterator[FileRow]) -> Iterator[FileRows]:
    yield FileRows(names, rows)
