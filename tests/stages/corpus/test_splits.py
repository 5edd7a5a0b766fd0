"""Rows are chosen by content."""

import random

import pyarrow as pa
import pytest

from stages.corpus.row_key import row_key
from stages.corpus.splits import cut, dev_rows, duplicates, holdout_rows, sample
from stages.specs.corpus import MOST_HELD_OUT


def rows(texts: list[str], labels: list[int] | None = None) -> pa.Table:
    return pa.table(
        {
            "index": pa.array(range(len(texts)), pa.int64()),
            "row_key": pa.array([row_key((text,)) for text in texts], pa.binary(16)),
            "label": pa.array(labels or [0] * len(texts), pa.int64()),
            "text": pa.array(texts),
        }
    )


def shuffled(table: pa.Table, seed: int = 5) -> pa.Table:
    order = list(range(table.num_rows))
    random.Random(seed).shuffle(order)
    return table.take(pa.array(order))


def content(table: pa.Table) -> list[tuple[str, int]]:
    return sorted(zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True))


def texts(table: pa.Table) -> set[str]:
    return set(table["text"].to_pylist())


MANY = rows([f"text {i}" for i in range(500)])
REPEATED = rows([f"text {i % 90}" for i in range(500)], [i % 7 for i in range(500)])


@pytest.mark.parametrize("table", [MANY, REPEATED])
def test_the_order_of_the_rows_does_not_change_the_sample(table: pa.Table) -> None:
    assert content(sample(table, 100, 0)) == content(sample(shuffled(table), 100, 0))


def test_a_sample_has_the_asked_number_of_rows_in_the_order_they_had() -> None:
    index = sample(MANY, 100, 0)["index"].to_pylist()
    assert len(index) == 100
    assert index == sorted(index)


def test_another_seed_gives_another_sample_and_the_same_seed_the_same() -> None:
    first, again, other = sample(MANY, 100, 0), sample(MANY, 100, 0), sample(MANY, 100, 1)
    assert texts(first) == texts(again)
    assert 5 < len(texts(first) & texts(other)) < 45  # 20 on average


def test_a_smaller_sample_is_part_of_a_larger_one() -> None:
    assert texts(sample(MANY, 50, 3)) < texts(sample(MANY, 100, 3))


def test_no_more_rows_are_sampled_than_there_are() -> None:
    assert sample(MANY, 501, 0) is MANY
    assert sample(MANY, None, 0) is MANY


def test_a_cut_parts_the_rows_and_keeps_their_order() -> None:
    divided = cut(MANY, 50, 0, b"holdout")
    assert divided.cut_off.num_rows == 50
    assert sorted(divided.kept["index"].to_pylist() + divided.cut_off["index"].to_pylist()) == list(range(500))
    assert divided.cut_off["index"].to_pylist() == sorted(divided.cut_off["index"].to_pylist())


def test_rows_of_equal_text_fall_on_the_same_side() -> None:
    for count in range(20, 60):
        divided = cut(REPEATED, count, 0, b"holdout")
        assert count - 5 < divided.cut_off.num_rows <= count  # each text is there 5 or 6 times
        assert not texts(divided.kept) & texts(divided.cut_off)


def test_the_order_of_the_rows_does_not_change_the_cut() -> None:
    assert content(cut(REPEATED, 50, 0, b"holdout").cut_off) == content(
        cut(shuffled(REPEATED), 50, 0, b"holdout").cut_off
    )


def test_being_sampled_says_nothing_about_being_held_out() -> None:
    held_out = cut(sample(MANY, 250, 0), 25, 0, b"holdout").cut_off
    first_sampled = sample(MANY, 25, 0)
    assert len(texts(held_out) & texts(first_sampled)) < 10  # 2.5 on average; 25 were the ranks the same


def test_a_cut_is_never_empty() -> None:
    divided = cut(rows(["a", "a", "a", "b", "b"]), 1, 0, b"holdout")
    assert divided.cut_off["text"].to_pylist() == ["b", "b"]


def test_a_cut_leaves_rows_where_there_are_two() -> None:
    divided = cut(rows(["a", "b"]), 1, 0, b"holdout")
    assert (divided.kept.num_rows, divided.cut_off.num_rows) == (1, 1)


def test_rows_of_one_text_cannot_be_cut() -> None:
    with pytest.raises(ValueError, match="train: 3 rows, all of the same text; a holdout split needs 2 texts"):
        cut(rows(["a", "a", "a"]), 1, 0, b"holdout")


def test_the_holdout_is_a_share_of_at_least_one_row_and_at_most_2000() -> None:
    assert holdout_rows(1000, 0.1) == 100
    assert holdout_rows(3, 0.1) == 1
    assert holdout_rows(400_000, 0.1) == MOST_HELD_OUT == 2000
    assert holdout_rows(400_000, 0.0) == 0


def test_at_least_so_many_rows_are_held_out_but_for_that_no_more_than_a_quarter() -> None:
    assert holdout_rows(1300, 0.1, least=300) == 300
    assert holdout_rows(1000, 0.1, least=300) == 250
    assert holdout_rows(1000, 0.4, least=300) == 400, "the share itself may be more than a quarter"
    assert holdout_rows(3000, 0.1, least=300) == 300 == holdout_rows(3000, 0.1)
    assert holdout_rows(5, 0.1, least=300) == 1 == holdout_rows(3, 0.1, least=300)
    assert holdout_rows(1300, 0.0, least=300) == 0


def test_a_cut_dev_split_is_a_tenth_of_train() -> None:
    assert (dev_rows(3947), dev_rows(3), dev_rows(40_000)) == (395, 1, 4000)


def test_duplicates_are_the_rows_whose_text_was_there_before() -> None:
    assert duplicates(rows(["a", "b", "a", "a"])) == 2
    assert duplicates(MANY) == 0
