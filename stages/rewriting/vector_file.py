"""Reads a file of word vectors, such as GloVe's. Each line has a word and its numbers, separated by spaces."""

from collections.abc import Iterator
from pathlib import Path

MOST_WORDS = 100_000
"""The words of a file that are read, from its beginning: files of word vectors list the frequent words first, and
TinyBERT's code reads as many."""

CHECKED_WORDS = 100
"""The words of a file that are read while planning."""


def read_vectors(path: Path) -> Iterator[tuple[str, list[float]]]:
    """The first ``MOST_WORDS`` words of a file with their vectors, all of one width. A first line of two items, which
    word2vec and fastText write, is passed over; a word may contain spaces, as some of GloVe's do. Raises ValueError for
    a line that is no word with as many numbers as the line before it, and for a file without lines."""
    width = words = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            items = line.rstrip().split(" ")
            if number == 1 and len(items) == 2:
                continue
            width = width or len(items) - 1
            try:
                vector = [float(item) for item in items[-width:]] if 0 < width < len(items) else []
            except ValueError:
                vector = []
            if not vector:
                wanted = f"{width} numbers" if width else "its numbers"
                raise ValueError(
                    f"{path}: line {number}: {line[:40].rstrip()!r}; write a word and {wanted}, with spaces"
                )
            yield " ".join(items[:-width]), vector
            words += 1
            if words == MOST_WORDS:
                return
    if not width:
        raise ValueError(f"{path}: has no word vectors; write lines of a word and its numbers, with spaces")


def check_vectors(path: Path) -> None:
    """Read the first words of a file of word vectors. Raises ValueError for a file of another form."""
    for number, _ in enumerate(read_vectors(path)):
        if number == CHECKED_WORDS:
            return
