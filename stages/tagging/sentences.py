"""Sentences as words with tags, from data files, read as a stream and checked.

Parquet and JSON lines have a list of words and a list of tags in each row; column files are CoNLL's own
(``stages.tagging.column_files``). Tags are names or, where the task names its tags, their numbers. Sentences without
tags are unlabelled.

What is wrong with a file is a ValueError of one line: the file, how many rows are bad, the first of them (counted from
1) with word and tag, and the remedy. The whole file is read for it.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from stages.files.rows import FileRow, FileRows, open_rows, shown_names
from stages.specs.tasks import TagScheme
from stages.tagging.column_files import is_column_file, open_columns
from stages.tagging.tags import TagParser, shown, split_tag, tag_set

LIST_KINDS = ("parquet", "jsonl")
"""Kinds of tables whose rows hold lists."""
FAULTS_NAMED = 3
"""Bad rows of a file that its error message describes; the others are counted."""


class Sentence(NamedTuple):
    """A sentence of a file. ``number`` counts rows from 1. ``tags`` are numbers in the task's tag set, in IOB2, one for
    each word; None where the sentence is unlabelled."""

    number: int
    words: tuple[str, ...]
    tags: tuple[int, ...] | None


class SentenceColumns(NamedTuple):
    """Where words and tags stand: names of columns in Parquet and JSON lines. In column files, ``word_column`` and
    ``tag_column``, counted from 1, or from the end with -1."""

    words: str = "tokens"
    tags: str | None = "tags"
    word_column: int = 1
    tag_column: int = -1


def row_text(words: Sequence[str]) -> str:
    """The words as one text, from which they can be had again: a JSON array. Sentences with other words have other
    texts, so the key of a sentence is ``row_key`` of this one text."""
    return json.dumps(list(words), ensure_ascii=False, separators=(",", ":"))


def words_of(text: str) -> tuple[str, ...]:
    """The words of which ``row_text`` made this text."""
    return tuple(json.loads(text))


# --- files ------------------------------------------------------------------------------------------------


def open_sentences(path: Path, columns: SentenceColumns) -> AbstractContextManager[FileRows]:
    """The rows of a file of sentences, with two values each: words and tags as they stand in the file; None for tags
    where ``columns.tags`` is None. Raises ValueError for a file as a whole, also while its rows are read, and for a
    kind of file that has no lists; FileNotFoundError if there is none."""
    if is_column_file(path):
        return open_columns(path, columns.word_column, None if columns.tags is None else columns.tag_column)
    names = (columns.words,) if columns.tags is None else (columns.words, columns.tags)
    return open_rows(path, names, LIST_KINDS)


def read_sentences(path: Path, columns: SentenceColumns, tags: Sequence[str], scheme: TagScheme) -> Iterator[Sentence]:
    """The sentences of a file, in order; they are complete only if the iterator ends without an error.

    ``tags`` is the tag set. Raises ValueError for wrong data, at the end if single rows are wrong, and for a file
    without rows or without one of the columns.
    """
    check = SentenceCheck(tags, scheme)
    faults: list[str] = []
    bad = count = 0
    with open_sentences(path, columns) as file:
        for row in file.rows:
            count += 1
            sentence, problem = check(row)
            if sentence is not None:
                yield sentence
                continue
            bad += 1
            if len(faults) < FAULTS_NAMED:
                faults.append(f"{row.place}: {problem}")
        _check_names(path, file.names, columns)
    if not count:
        raise ValueError(f"{path}: no sentences; a file needs at least 1")
    if bad:
        more = f"; and {bad - len(faults):,} more" if bad > len(faults) else ""
        whole = f"{bad:,} of {count:,} rows cannot be used: " if bad > 1 else ""
        raise ValueError(f"{path}: {whole}{'; '.join(faults)}{more}")


def found_tag_set(paths: Iterable[Path], columns: SentenceColumns) -> tuple[str, ...]:
    """The tag set for the types of entities that occur in these files. Rows that cannot be used count for nothing here;
    ``read_sentences`` refuses them. Raises ValueError for tags that are numbers, and where no file has an entity."""
    types: set[str] = set()
    for path in paths:
        with open_sentences(path, columns) as file:
            for row in file.rows:
                types |= _types(path, row)
    if not types:
        raise ValueError("labels: the data have no tag but O; name the column of the tags, or list the labels")
    return tag_set(types)


def _types(path: Path, row: FileRow) -> set[str]:
    values = row.values[1] if len(row.values) > 1 else None
    types = set()
    for tag in values if isinstance(values, list) else []:
        if isinstance(tag, int):
            raise ValueError(f"{path}: {row.place}: tags are numbers; list the labels in the order of their numbers")
        try:
            types.add(split_tag(str(tag))[1])
        except ValueError:
            continue
    return types - {""}


def _check_names(path: Path, names: Sequence[str], columns: SentenceColumns) -> None:
    """Raise ValueError if a table lacks a column. A file of JSON lines without a readable line has no names."""
    if is_column_file(path) or not names:
        return
    for name in (columns.words, columns.tags):
        if name is not None and name not in names:
            raise ValueError(f"{path}: no column {name}; it has {shown_names(names)}")


# --- rows -------------------------------------------------------------------------------------------------


class SentenceCheck:
    """Checks the rows of one file: words must be strings with something to see, tags those of the task in its
    scheme."""

    def __init__(self, tags: Sequence[str], scheme: TagScheme) -> None:
        self._parse = TagParser(tags, scheme)

    def __call__(self, row: FileRow) -> tuple[Sentence | None, str]:
        """(sentence, ""), or (None, what is wrong with the row). A row whose tags are null is unlabelled."""
        if row.problem:
            return None, row.problem
        given, tags = row.values[0], row.values[1] if len(row.values) > 1 else None
        try:
            words = checked_words(given)
            if tags is not None and not isinstance(tags, list):
                raise ValueError(f"tags are {shown(tags)}, a {type(tags).__name__}; a row needs a list of tags")
            numbers = None if tags is None else self._parse(words, tags)
        except ValueError as error:
            return None, str(error)
        return Sentence(row.number, words, numbers), ""


def checked_words(value: object) -> tuple[str, ...]:
    """The words of a row. Raises ValueError for what is no list of strings, for no words, and for a word that is empty
    or that UTF-8 cannot encode."""
    if not isinstance(value, list):
        found = "null" if value is None else f"{shown(value)}, a {type(value).__name__}"
        raise ValueError(f"words are {found}; a row needs a list of strings")
    if not value:
        raise ValueError("no words; leave the row out")
    for place, word in enumerate(value, start=1):
        if not isinstance(word, str):
            raise ValueError(f"word {place} is {shown(word)}, a {type(word).__name__}; a word must be a string")
        if not word or word.isspace():
            raise ValueError(f"word {place} is {shown(word)}, with nothing to see; leave it out with its tag")
        if not word.isascii():
            try:
                word.encode("utf-8")
            except UnicodeEncodeError as error:
                raise ValueError(f"word {place} ({shown(word)}) is no UTF-8; write the whole character") from error
    return tuple(value)
