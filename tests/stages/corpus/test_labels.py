"""What stands in a label column, and what it means."""

import math

import pytest

from stages.corpus.labels import parse_labels
from stages.specs.tasks import BUILT_IN, Task

COLA, STSB = BUILT_IN["cola"], BUILT_IN["stsb"]


def test_labels_may_be_numbers_names_or_numbers_as_text() -> None:
    assert parse_labels([0, "acceptable", "1", 1.0, "0.0", True], COLA, "f") == [0, 1, 1, 1, 0, 1]


def test_minus_one_null_nan_and_nothing_mean_not_public() -> None:
    assert parse_labels([-1, None, math.nan, "", "-1", -1.0], COLA, "f") == [None] * 6


def test_names_that_are_numbers_win_over_numbers() -> None:
    stars = Task(name="stars", text=("a",), labels=("1", "2", "3"))
    assert parse_labels([1, "3", 2.0], stars, "f") == [0, 2, 1]
    with pytest.raises(ValueError, match=r"row 1, column label: 0 is no label of stars; use a name \(1, 2, 3\)"):
        parse_labels([0], stars, "f")


def test_minus_one_may_be_a_label_by_name() -> None:
    polar = Task(name="polar", text=("a",), labels=("-1", "1"))
    assert parse_labels([-1, 1, None], polar, "f") == [0, 1, None]


@pytest.mark.parametrize("wrong", [2, -2, "maybe", 0.5, [1], b"1", math.inf, "nan"])
def test_what_is_no_label_is_an_error_that_names_row_column_value_and_labels(wrong: object) -> None:
    with pytest.raises(ValueError) as caught:
        parse_labels([0, 1, wrong], COLA, "some/train.csv")
    expected = f"{wrong!r} is no label of cola; use 0 to 1 or a name (unacceptable, acceptable), or -1 for not public"
    assert str(caught.value) == f"some/train.csv: row 3, column label: {expected}"


def test_scores_may_be_numbers_or_numbers_as_text() -> None:
    assert parse_labels([0, 2.5, "4.25", "-1", None, math.nan], STSB, "f") == [0.0, 2.5, 4.25, -1.0, None, None]


def test_minus_one_hides_a_score_only_where_every_row_has_it() -> None:
    assert parse_labels([-1.0, -1.0], STSB, "f") == [None, None]
    assert parse_labels([-1.0, 0.5], STSB, "f") == [-1.0, 0.5]


@pytest.mark.parametrize("wrong", ["high", math.inf, [1.0]])
def test_what_is_no_score_is_an_error(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"f: row 1, column label: .* is no score for stsb; use a finite number"):
        parse_labels([wrong], STSB, "f")
