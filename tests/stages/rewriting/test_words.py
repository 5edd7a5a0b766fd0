from pathlib import Path

import pytest

from stages.rewriting.synonyms import read_synonyms
from stages.rewriting.words import cased_like, with_words, words_of


def test_words_are_letters_and_apostrophes_between_them() -> None:
    text = "Don't stop, it\u2019s the 3rd x86 caf\u00e9 (well-made) no_name 12 Ann 's."
    assert [word.text for word in words_of(text)] == [
        "Don't",
        "stop",
        "it\u2019s",
        "the",
        "caf\u00e9",
        "well",
        "made",
        "Ann",
    ]


def test_what_stands_between_words_stays() -> None:
    text = " The  end,\tof it! "
    words = words_of(text)
    assert with_words(text, {}) == text
    assert with_words(text, {words[2]: "without", words[0]: "No"}) == " No  end,\twithout it! "


@pytest.mark.parametrize(
    ("original", "word", "cased"),
    [("film", "movie", "movie"), ("Film", "movie", "Movie"), ("FILM", "movie", "MOVIE"), ("film", "Paris", "Paris")],
)
def test_a_word_is_cased_as_what_it_replaces(original: str, word: str, cased: str) -> None:
    assert cased_like(original, word) == cased


def test_synonyms_are_read_without_case_each_once_and_never_the_word_itself(tmp_path: Path) -> None:
    file = tmp_path / "synonyms.txt"
    file.write_text("Film\tmovie, picture show ,film\n\na lot\tmuch\nfilm\tmovie,flick\nalone\t \n", "utf-8")
    assert read_synonyms(file) == {"film": ("movie", "picture show", "flick")}


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("film movie\n", r"line 1: 'film movie'; write a word, a tab"),
        ("\n\tmovie\n", r"line 2: '\\tmovie'; write a word, a tab"),
        ("a lot\tmuch\n", r"no synonyms of any single word"),
    ],
)
def test_a_file_that_holds_no_synonyms_is_refused(content: str, wrong: str, tmp_path: Path) -> None:
    file = tmp_path / "synonyms.txt"
    file.write_text(content, "utf-8")
    with pytest.raises(ValueError, match=wrong):
        read_synonyms(file)
