"""Sentences in CoNLL's column files: a word a line with its columns, and a blank line after each sentence.

    EU       NNP  B-NP  B-ORG
    rejects  VBZ  B-VP  O

Columns are separated by spaces or tabs. Lines that mark the beginning of a document (``-DOCSTART-``) are left out. A
column is counted from 1, or from the end with -1, since files differ in what stands between word and tag.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.files.kinds import COMPRESSIONS, check_content, check_regular
from stages.files.rows import FileRow, FileRows, damage_named, not_utf8, unpacked

DOCUMENT_MARK = "-DOCSTART-"
NAMES = ("words", "tags")
SEPARATORS = re.compile(r"[ \t\r\n]+")


def is_column_file(path: Path) -> bool:
    """Whether the name of a file is one that CoNLL's files have: it ends in ``.conll``, ``.bio``, ``.iob`` or ``.txt``,
    compressed or not."""
    names = path.name.lower().split(".")
    if len(names) > 2 and names[-1] in COMPRESSIONS:
        names.pop()
    return len(names) > 1 and names[-1] in ("conll", "bio", "iob", "txt")


@contextmanager
def open_columns(path: Path, word_column: int = 1, tag_column: int | None = -1) -> Iterator[FileRows]:
    """The sentences of a column file as rows of two values: the list of words, and the list of tags; None in its place
    for files without tags (``tag_column``: None). ``number`` counts sentences from 1, ``line`` is that of the
    sentence's last word.

    A line that lacks a column, or is not UTF-8, is a problem of its sentence. Raises ValueError for a file as a whole,
    also while its rows are read, and for a column 0; FileNotFoundError if there is no file.
    """
    for name, column in (("word_column", word_column), ("tag_column", tag_column)):
        if column == 0:
            raise ValueError(f"{name}: 0; columns are counted from 1, or from the end with -1")
    check_regular(path)
    ending = path.suffix.lower().removeprefix(".")
    compression = ending if ending in COMPRESSIONS else ""
    check_content(path, "txt", compression)
    with path.open("rb", buffering=2**20) as raw:
        lines = io.TextIOWrapper(unpacked(raw, compression), "utf-8-sig", "surrogateescape", "\n")
        yield FileRows(list(NAMES), _sentences(path, lines, word_column, tag_column), raw)


def _sentences(path: Path, lines: Iterator[str], word_column: int, tag_column: int | None) -> Iterator[FileRow]:
    number, last = 0, 0
    words: list[str] = []
    tags: list[str] = []
    problem = ""
    with damage_named(path):
        for line_number, fields in _records(lines):
            if not fields:
                if words or problem:
                    number += 1
                    yield _row(number, last, words, None if tag_column is None else tags, problem)
                words, tags, problem = [], [], ""
                continue
            last = line_number
            word, tag = _field(fields, word_column), _field(fields, word_column if tag_column is None else tag_column)
            problem = problem or _problem(fields, line_number, word_column, tag_column)
            words.append(word or "")
            tags.append(tag or "")


def _records(lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each line; no fields for what ends a sentence: a blank line, the mark of a document, and
    the end of the file."""
    line_number = 0
    for line_number, line in enumerate(lines, start=1):
        fields = _split(line)
        yield line_number, [] if fields and fields[0] == DOCUMENT_MARK else fields
    yield line_number, []


def _split(line: str) -> list[str]:
    """The fields of a line. Only spaces, tabs and line ends separate them: other white space, such as a no-break space,
    may be a word."""
    return [field for field in SEPARATORS.split(line) if field]


def _field(fields: list[str], column: int) -> str | None:
    place = column - 1 if column > 0 else len(fields) + column
    return fields[place] if 0 <= place < len(fields) else None


def _problem(fields: list[str], line_number: int, word_column: int, tag_column: int | None) -> str:
    """What is wrong with a line; "" if nothing is."""
    wrong = not_utf8(" ".join(fields))
    if wrong:
        return f"line {line_number}: {wrong}"
    for name, column in (("word_column", word_column), ("tag_column", tag_column)):
        if column is not None and _field(fields, column) is None:
            return f"line {line_number} has {len(fields)} columns, so no {name} {column}; mend it, or name another"
    if tag_column is not None and len(fields) == 1:
        return f"line {line_number} has one column, so no tag beside the word; mend it, or set tag_column to none"
    return ""


def _row(number: int, line: int, words: list[str], tags: list[str] | None, problem: str) -> FileRow:
    return FileRow(number, line, () if problem else (words, tags), problem)
