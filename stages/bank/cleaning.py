"""Cleans the texts of a bank, splits them into sentences and filters them by length."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from stages.specs.bank import BankSpec

CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff]")
"""Control characters other than white space, and the byte-order mark."""

Texts = tuple[str, ...]


def cleaned(text: str) -> str:
    """The text in NFC, without control characters, with one space for each run of white space and none at its ends."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return " ".join(CONTROL.sub("", text).split())


def clean_rows(rows: Iterable[Sequence[object]], spec: BankSpec) -> tuple[list[Texts], dict[str, int]]:
    """The cleaned rows that pass the filters of single rows, and counts: rows ``read``, rows that are ``not_text``,
    then ``sentences`` that texts were split into, if they are split, and rows ``too_short`` or ``too_long``. A pair is
    too short if either text is, and too long if either text is."""
    counts: Counter[str] = Counter()
    kept: list[Texts] = []
    for row in rows:
        counts["read"] += 1
        if not all(is_text(value) for value in row):
            counts["not_text"] += 1
            continue
        for texts in _split([str(value) for value in row], spec.sentences):
            counts["sentences"] += 1
            clean = tuple(cleaned(text) for text in texts)
            words = [text.count(" ") + 1 if text else 0 for text in clean]
            if min(words) < spec.min_words:
                counts["too_short"] += 1
            elif max(words) > spec.max_words:
                counts["too_long"] += 1
            else:
                kept.append(clean)
    return kept, {name: counts[name] for name in filter_names(spec)}


def filter_names(spec: BankSpec) -> tuple[str, ...]:
    """The names of the counts of ``clean_rows``, in order."""
    split = ("sentences",) if spec.sentences is not None else ()
    return ("read", "not_text", *split, "too_short", "too_long")


def is_text(value: object) -> bool:
    """Whether this is a string that UTF-8 can encode. JSON can escape half a surrogate pair, which UTF-8 cannot."""
    if not isinstance(value, str):
        return False
    try:
        value.isascii() or value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _split(texts: Sequence[str], language: str | None) -> Iterator[Texts]:
    if language is None:
        yield tuple(texts)
        return
    import sentencex

    (text,) = texts
    for sentence in sentencex.segment(language, text):
        if sentence.strip():
            yield (sentence,)
