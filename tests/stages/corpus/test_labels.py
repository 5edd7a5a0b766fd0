"""What stands in a label column, and what it means."""

import math

import pytest

from stages.corpus.labels import LabelParser, all_hidden
from stages.specs.tasks import BUILT_IN, Task

COLA, STSB = BUILT_IN["cola"], BUILT_IN["stsb"]


def parsed(values: list[object], task: Task) -> list[int | float | None]:
    return list(map(LabelParser(task), values))


def test_labels_may_be_numbers_names_or_numbers_as_text() -> None:
    assert parsed([0, "acceptable", "1", 1.0, "0.0", True], COLA) == [0, 1, 1, 1, 0, 1]


def test_minus_one_null_nan_and_nothing_mean_not_public() -> None:
    assert parsed([-1, None, math.nan, "", "-1", -1.0], COLA) == [None] * 6


def test_names_that_are_numbers_win_over_numbers() -> None:
    stars = Task(name="stars", text=("a",), labels=("1", "2", "3"))
    assert parsed([1, "3", 2.0], stars) == [0, 2, 1]
    with pytest.raises(ValueError, match=r"^0 is no label of stars; use a name \(1, 2, 3\)"):
        parsed([0], stars)


def test_minus_one_may_be_a_label_by_name() -> None:
    polar = Task(name="polar", text=("a",), labels=("-1", "1"))
    assert parsed([-1, 1, None], polar) == [0, 1, None]


@pytest.mark.parametrize("wrong", [2, -2, "maybe", 0.5, [1], b"1", math.inf, "nan"])
def test_what_is_no_label_is_an_error_that_names_value_and_labels(wrong: object) -> None:
    with pytest.raises(ValueError) as caught:
        parsed([0, 1, wrong], COLA)
    expected = f"{wrong!r} is no label of cola; use 0 to 1 or a name (unacceptable, acceptable), or -1 for not public"
    assert str(caught.value) == expected


def test_scores_may_be_numbers_or_numbers_as_text() -> None:
    assert parsed([0, 2.5, "4.25", "-1", None, math.nan], STSB) == [0.0, 2.5, 4.25, -1.0, None, None]


def test_minus_one_hides_a_score_only_where_every_row_has_it() -> None:
    assert all_hidden(parsed([-1.0, -1.0], STSB), STSB)
    assert not all_hidden(parsed([-1.0, 0.5], STSB), STSB)
    assert not all_hidden(parsed([-1, -1], COLA), COLA)


@pytest.mark.parametrize("wrong", ["high", math.inf, [1.0], 10**400, "1e300", "1_5"])
def test_what_is_no_score_is_an_error(wrong: object) -> None:
    with pytest.raises(ValueError, match=r".* is no score for stsb; use a number up to 1e\+12"):
        parsed([wrong], STSB)


@pytest.mark.parametrize("written", [" acceptable ", "ACCEPTABLE", "acceptable\u00a0"])
def test_a_label_that_differs_in_case_or_spaces_gets_the_name_that_was_probably_meant(written: str) -> None:
    with pytest.raises(ValueError, match=r"is no label of cola; did you mean acceptable\?$"):
        parsed([written], COLA)
