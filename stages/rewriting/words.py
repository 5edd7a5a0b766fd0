"""Words of a text: where they are, and other words in their place. What stands between them stays."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

WORD = re.compile(r"(?<![\w'\u2019])[^\W\d_]+(?:['\u2019][^\W\d_]+)*(?!\w)")
"""Letters, and apostrophes between them; neither the letters of 3rd and x86, nor what some tokeniser split off
('s, 're)."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word and its place in the text."""

    text: str
    start: int
    end: int


def words_of(text: str) -> list[Word]:
    return [Word(match.group(), match.start(), match.end()) for match in WORD.finditer(text)]


def with_words(text: str, words: Mapping[Word, str]) -> str:
    """The text with each of these words replaced."""
    parts, start = [], 0
    for word in sorted(words, key=lambda word: word.start):
        parts += [text[start : word.start], words[word]]
        start = word.end
    return "".join((*parts, text[start:]))


def cased_like(original: str, word: str) -> str:
    """The word in capitals where the original is, with a capital where it has one, else as it is."""
    if len(original) > 1 and original.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if original[:1].isupper() else word
