"""Checks a submission to the GLUE leaderboard: files, numbers of rows, the order of the index, values.

What is wrong is returned in words, a line for each kind of mistake in a file. Needs the standard library alone, apart
from the table of files.
"""

import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from pipeline.leaderboard.files import FILES, HEADER, HIGHEST, LOWEST, LeaderboardFile

NAMED = 3
"""How many lines or indices a message names; the others are counted."""


def zip_problems(path: Path) -> list[str]:
    """What is wrong with a submission, [] if nothing is: a zip with the files of ``FILES`` in no folder, and with
    nothing else. Raises OSError for a file that cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            wanted = [file.name for file in FILES]
            found = [f"{name}: is missing" for name in wanted if name not in names]
            found += [f"{name}: stands {count} times in it" for name, count in Counter(names).items() if count > 1]
            others = [name for name in dict.fromkeys(names) if name not in wanted]
            found += [f"{_shown(others)}: is no file of the leaderboard, whose files are in no folder"] * bool(others)
            for file in FILES:
                if file.name in names:
                    found += file_problems(file, archive.read(file.name).decode("utf-8", "replace"))
            return found
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # no zip, a damaged or an encrypted one
        return [f"{path}: is no zip that can be read ({error})"]


def file_problems(file: LeaderboardFile, text: str) -> list[str]:
    """What is wrong with the content of one file, [] if nothing is."""
    header, *lines = text.splitlines() or [""]
    problems = [] if header == HEADER else [f"its first line is {header!r}; write {HEADER!r}"]
    rows: list[tuple[int, int, str]] = []
    torn: list[int] = []
    for number, line in enumerate(lines, 2):
        index, tab, value = line.partition("\t")
        if tab and "\t" not in value and _is_index(index):
            rows.append((number, int(index), value))
        else:
            torn.append(number)
    if torn:
        problems.append(f"line {_shown(torn)}: not an index, a tab and a prediction")
    if len(lines) != file.rows:
        problems.append(f"{len(lines):,} rows; the official split has {file.rows:,}")
    problems += _index_problems(file, [index for _, index, _ in rows])
    wrong = [(number, value) for number, _, value in rows if not _is_value(file, value)]
    if wrong:
        takes = f"a number from {LOWEST:g} to {HIGHEST:g}" if file.values is None else " or ".join(file.values)
        numbers = [number for number, _ in wrong]
        problems.append(f"line {_shown(numbers)}: the prediction is {wrong[0][1]!r}; it must be {takes}")
    return [f"{file.name}: {problem}" for problem in problems]


def _index_problems(file: LeaderboardFile, indices: Sequence[int]) -> Iterator[str]:
    counts = Counter(indices)
    missing = [index for index in range(file.rows) if index not in counts]
    if missing:
        yield f"no row has the index {_shown(missing)}"
    doubled = [index for index, count in counts.items() if count > 1]
    if doubled:
        yield f"several rows have the index {_shown(doubled)}"
    outside = [index for index in counts if index >= file.rows]
    if outside:
        yield f"the index {_shown(outside)} is out of range; the last row is {file.rows - 1:,}"
    falling = next((index for before, index in pairwise(indices) if index < before), None)
    if falling is not None:
        yield f"the rows are not in the order of their index: {falling} stands after a larger one"


def _is_index(text: str) -> bool:
    """Whether a text is a whole number as the files write it."""
    return text.isascii() and text.isdecimal() and text == str(int(text))


def _is_value(file: LeaderboardFile, text: str) -> bool:
    if file.values is not None:
        return text in file.values
    try:
        return LOWEST <= float(text) <= HIGHEST
    except ValueError:
        return False


def _shown(items: Sequence[object]) -> str:
    """The first items, and how many more there are."""
    more = f" and {len(items) - NAMED:,} more" if len(items) > NAMED else ""
    return f"{', '.join(map(str, items[:NAMED]))}{more}"
