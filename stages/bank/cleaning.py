"""A text as a bank has it: cleaned, split into sentences, of a length within bounds."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from stages.specs.bank import BankSpec

CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff]")
"""Control characters other than white space, and the byte-order mark."""

Texts = tuple[str, ...]


def cleaned(text: str) -> str:
    """In Unicode's composed form (NFC), without control characters, one space for any white space between words."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return " ".join(CONTROL.sub("", text).split())


def kept_texts(rows: Iterable[Sequence[object]], spec: BankSpec) -> tuple[list[Texts], dict[str, int]]:
    """What of these rows passes the filters that look at one row alone, and how many rows came to each of them:
    ``read``, ``not_text``, then ``sentences`` (how many were made) where texts are split, ``too_short``, ``too_long``.
    A pair is as short as its shorter text and as long as its longer."""
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
    split = ("sentences",) if spec.sentences is not None else ()
    return ("read", "not_text", *split, "too_short", "too_long")


def is_text(value: object) -> bool:
    """A string that UTF-8 can hold: JSON can spell half a surrogate pair, which it cannot."""
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
