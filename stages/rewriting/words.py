"""Finds the words of a text and replaces some of them; what is between them stays as it is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

WORD = re.compile(r"(?<![\w'\u2019])[^\W\d_]+(?:['\u2019][^\W\d_]+)*(?!\w)")
"""Letters, and apostrophes between letters. Not a part of 3rd or x86, and no suffix that a tokeniser split off ('s,
're)."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word and its character span in the text."""

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
    """The word in capitals if the original is in capitals, capitalised if the original begins with a capital, else as
    it is."""
    if len(original) > 1 and original.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if original[:1].isupper() else word
