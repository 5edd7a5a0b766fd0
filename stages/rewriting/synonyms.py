"""Reads a file of synonyms. Each line has a word, a tab and the word's synonyms, separated by commas."""

from collections.abc import Mapping
from pathlib import Path

from stages.rewriting.words import WORD


def read_synonyms(path: Path) -> Mapping[str, tuple[str, ...]]:
    """Case-folded word -> its distinct synonyms, in the order of the file. ValueError for a line of another form."""
    found: dict[str, dict[str, None]] = {}
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        word, tab, rest = line.partition("\t")
        if not tab or not word.strip():
            raise ValueError(f"{path}: line {number}: {line[:40]!r}; write a word, a tab, and its synonyms with commas")
        entry = word.strip().casefold()
        several = (synonym.strip() for synonym in rest.split(","))
        found.setdefault(entry, {}).update(dict.fromkeys(one for one in several if one and one.casefold() != entry))
    synonyms = {word: tuple(several) for word, several in found.items() if several and WORD.fullmatch(word)}
    if not synonyms:
        raise ValueError(f"{path}: no synonyms of any single word; write lines of a word, a tab, and its synonyms")
    return synonyms


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
