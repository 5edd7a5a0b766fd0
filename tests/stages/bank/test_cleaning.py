"""Cleaning, and what counts as a text."""

import pytest

from stages.bank.cleaning import clean_rows, cleaned, is_text
from stages.specs.bank import BankSpec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a \t b\r\n c ", "a b c"),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
        ("a\x00b\x07c\x7f\u0085d", "abc d"),
        ("\ufeffa\u00a0b\u3000c\u2028d", "a b c d"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),  # a zero-width non-joiner is part of the spelling
        ("\x1f\x1e", ""),
    ],
)
def test_a_text_is_composed_without_control_characters_and_with_single_spaces(text: str, expected: str) -> None:
    assert cleaned(text) == expected
    assert cleaned(expected) == expected


@pytest.mark.parametrize("value", [None, 3, b"bytes", ["a"], "half \ud800 a pair"])
def test_what_utf8_cannot_hold_as_a_string_is_no_text(value: object) -> None:
    assert not is_text(value)


def test_bounds_are_of_each_text_of_a_pair() -> None:
    spec = BankSpec(text=("a", "b"), min_words=2, max_words=3)
    rows = [("one two", "one two three"), ("one", "one two"), ("one two", "one two three four")]
    texts, counts = clean_rows(rows, spec)
    assert texts == [("one two", "one two three")]
    assert counts == {"read": 3, "not_text": 0, "too_short": 1, "too_long": 1}
