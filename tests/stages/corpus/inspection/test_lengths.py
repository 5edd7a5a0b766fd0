"""max_length is the least at which nearly all rows are whole."""

from pathlib import Path

import pytest
from tiny import packaged_model

from stages.corpus.inspection.lengths import RowLength, row_length


def words(count: int) -> str:
    return " ".join(["word"] * count)


def test_the_tokens_that_separate_and_end_texts_count() -> None:
    assert row_length([(words(30),)], packaged_model(), 512) == RowLength(32, 32, 0)
    assert row_length([(words(31),)], packaged_model(), 512) == RowLength(64, 33, 0)
    assert row_length([(words(14), words(15))], packaged_model(), 512) == RowLength(32, 32, 0)


def test_one_long_row_of_many_is_cut_and_one_of_few_is_not() -> None:
    short = [(words(5),)] * 99
    assert row_length([*short, (words(100),)], packaged_model(), 512) == RowLength(32, 7, 0.01)
    assert row_length([*short[:9], (words(100),)], packaged_model(), 512).max_length == 128


def test_a_model_with_few_positions_bounds_the_length() -> None:
    assert row_length([(words(100),)], packaged_model(), 80) == RowLength(64, 102, 1)
    assert row_length([(words(100),)], packaged_model(), 20).max_length == 20


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="not a tokenizer"):
        row_length([("a",)], tmp_path, None)
