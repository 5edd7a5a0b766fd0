from pathlib import Path

import pytest

from stages.corpus.leakage import EVALUATED, normalized, read_guard, write_guard


@pytest.mark.parametrize(
    "other",
    [
        "It's  GREAT!",
        "its great",
        "\tIts-great.",
        "\u201cIt\u2019s great\u201d",
        "IT\u00a0S GREAT",
        "It\u0301s great",
        "-LRB- it 's great -RRB-",
    ],
)
def test_texts_are_compared_without_case_spacing_accents_and_punctuation(other: str, tmp_path: Path) -> None:
    write_guard(tmp_path, ["It's great."])
    assert read_guard(tmp_path).blocks([other])


def test_another_text_is_not_blocked(tmp_path: Path) -> None:
    write_guard(tmp_path, ["It's great."])
    assert not read_guard(tmp_path).blocks(["It's greater.", "great"])


def test_one_text_of_a_pair_is_enough(tmp_path: Path) -> None:
    write_guard(tmp_path, ["one", "two"])
    assert read_guard(tmp_path).blocks(["three", "TWO"])


def test_texts_without_letters_are_told_apart() -> None:
    assert normalized("?! ") != normalized("...")
    assert normalized("caf\u00e9 \ufb01x") == "cafefix"


def test_each_text_is_kept_once(tmp_path: Path) -> None:
    assert write_guard(tmp_path, ["a", "A ", "b"]) == 2


def test_a_guard_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"evaluated\.parquet: cannot be read .*build the corpus again"):
        read_guard(tmp_path)
    (tmp_path / EVALUATED).write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="build the corpus again"):
        read_guard(tmp_path)
