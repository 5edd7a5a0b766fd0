"""Columns of text and labels are found by their values and names; what is not clear is not chosen."""

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.corpus.inspection.columns import ColumnChoice, label_column, label_names, text_columns
from stages.corpus.inspection.profile import TableProfile, profile_table

Rows = Iterable[Mapping[str, object]]


def text(row: int, words: int = 6) -> str:
    return " ".join(["one", "two", "three", "four", "five", "six", "seven"][:words]) + f" {row}"


def table(folder: Path, rows: Rows, name: str = "t.csv") -> TableProfile:
    """The profile of a CSV or JSONL file with these rows."""
    rows, path = list(rows), folder / name
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return profile_table(path)


def chosen(found: TableProfile) -> tuple[tuple[str, ...], str]:
    """The columns of text and the label, which must be clear."""
    texts = text_columns(found)
    label = label_column(found, texts.best)
    assert texts.clear and label.clear
    return texts.best, label.best[0]


def labels(found: TableProfile, label: str = "label") -> tuple[str, ...] | None:
    return label_names({"train": found}, label)


def refusal(found: TableProfile, label: str = "label") -> str:
    with pytest.raises(ValueError) as caught:
        labels(found, label)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{found.path.parent}/", "")


# --- texts ----------------------------------------------------------------------------------------


def test_title_and_body_are_read_as_a_pair_and_stars_are_classes_in_their_order(tmp_path: Path) -> None:
    rows = [
        {"id": row, "title": text(row, 2), "body": text(row), "stars": row % 11 + 1, "country": "DK"}
        for row in range(60)
    ]
    found = table(tmp_path, rows)
    assert chosen(found) == (("title", "body"), "stars")
    assert labels(found, "stars") == tuple(map(str, range(1, 12)))


def test_two_texts_and_a_score_of_json_lines_are_a_regression(tmp_path: Path) -> None:
    rows = [{"text1": text(row), "text2": text(row + 1), "score": row % 50 / 10} for row in range(100)]
    found = table(tmp_path, rows, "t.jsonl")
    assert chosen(found) == (("text1", "text2"), "score")
    assert labels(found, "score") is None


def test_three_texts_are_not_clear_and_the_longest_is_the_most_probable(tmp_path: Path) -> None:
    rows = [{"a": text(row, 2), "b": text(row, 3), "c": text(row), "label": row % 2} for row in range(40)]
    assert text_columns(table(tmp_path, rows)) == ColumnChoice(("c",), ("a", "b", "c"), False)


def test_two_texts_whose_names_do_not_belong_together_are_not_clear(tmp_path: Path) -> None:
    rows = [{"review": text(row), "answer": text(row, 2), "label": row % 2} for row in range(40)]
    assert text_columns(table(tmp_path, rows)) == ColumnChoice(("review",), ("review", "answer"), False)


def test_of_three_texts_a_pair_is_the_most_probable_and_yet_not_clear(tmp_path: Path) -> None:
    rows = [
        {"explanation": text(row), "hypothesis": text(row, 3), "premise": text(row, 4), "label": row % 2}
        for row in range(40)
    ]
    choice = text_columns(table(tmp_path, rows))
    assert choice.best == ("premise", "hypothesis") and not choice.clear


def test_single_words_are_the_text_where_there_are_no_longer_ones(tmp_path: Path) -> None:
    rows = [{"surname": f"name{chr(97 + row // 26)}{chr(97 + row % 26)}", "label": "xy"[row % 2]} for row in range(60)]
    assert chosen(table(tmp_path, rows)) == (("surname",), "label")


def test_names_of_categories_dates_and_numbers_are_no_texts(tmp_path: Path) -> None:
    rows = [
        {
            "category": ("home and garden", "food and drink")[row % 2],
            "when": f"2024-01-{row % 28 + 1:02} 10:{row % 60:02}",
            "price": f"{row}.50",
            "message": text(row),
        }
        for row in range(60)
    ]
    assert chosen(table(tmp_path, rows)) == (("message",), "category")


def test_a_column_called_text_is_the_text_even_where_its_values_repeat(tmp_path: Path) -> None:
    rows = [{"text": ("up and down", "left and right")[row % 2], "kind": "xyz"[row % 3]} for row in range(60)]
    assert chosen(table(tmp_path, rows)) == (("text",), "kind")


# --- labels ---------------------------------------------------------------------------------------


def test_a_column_called_label_is_the_label_whatever_else_there_is(tmp_path: Path) -> None:
    rows = [{"text": text(row), "split": row % 3, "label": row % 2, "rating": row % 5} for row in range(60)]
    assert chosen(table(tmp_path, rows)) == (("text",), "label")


def test_names_of_labels_are_taken_before_their_numbers(tmp_path: Path) -> None:
    rows = [{"text": text(row), "label": row % 2, "label_text": ("bad", "good")[row % 2]} for row in range(60)]
    found = table(tmp_path, rows)
    assert chosen(found) == (("text",), "label_text")
    assert labels(found, "label_text") == ("bad", "good")


def test_two_columns_that_may_be_the_label_are_not_clear(tmp_path: Path) -> None:
    rows = [{"text": text(row), "colour": "rgb"[row % 3], "shape": "xy"[row % 2]} for row in range(60)]
    assert label_column(table(tmp_path, rows), ("text",)) == ColumnChoice(("colour",), ("colour", "shape"), False)


def test_numbers_of_rows_are_no_labels(tmp_path: Path) -> None:
    rows = [{"number": row * 3, "text": text(row), "kind": "xy"[row % 2]} for row in range(60)]
    assert chosen(table(tmp_path, rows)) == (("text",), "kind")


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["b", "a"], ("a", "b")),
        (["-1", "0", "1"], ("-1", "0", "1")),
        (["1.0", "2.0", "10.0"], ("1", "2", "10")),
        ([True, False], ("false", "true")),
        ([0.5, 1.5], None),
        (list(range(30)), None),
        (["no", "1"], ("1", "no")),
    ],
)
def test_values_become_names_of_classes_or_scores(tmp_path: Path, values: list[object], names: object) -> None:
    rows = [{"text": text(row), "label": values[row % len(values)]} for row in range(60)]
    assert labels(table(tmp_path, rows, "t.jsonl")) == names


def test_whole_numbers_without_a_gap_from_0_are_classes_however_many_there_are(tmp_path: Path) -> None:
    rows = [{"text": text(row), "label": row % 77} for row in range(770)]
    assert labels(table(tmp_path, rows)) == tuple(map(str, range(77)))


def test_a_few_whole_numbers_in_a_column_called_score_are_scores(tmp_path: Path) -> None:
    rows = [{"text": text(row), "similarity": row % 6} for row in range(60)]
    assert labels(table(tmp_path, rows), "similarity") is None


def test_labels_of_the_other_splits_count_but_not_those_that_are_not_public(tmp_path: Path) -> None:
    train = table(tmp_path, [{"text": text(row), "label": row % 2} for row in range(20)])
    dev = table(tmp_path, [{"text": text(row), "label": row % 3} for row in range(20)], "dev.csv")
    test = table(tmp_path, [{"text": text(row), "label": -1} for row in range(20)], "test.csv")
    assert label_names({"train": train, "validation": dev, "test": test}, "label") == ("0", "1", "2")


def test_a_single_class_is_refused_as_in_a_plan(tmp_path: Path) -> None:
    found = table(tmp_path, [{"text": text(row), "label": "bad"} for row in range(40)])
    assert chosen(found) == (("text",), "label")
    assert refusal(found).startswith("t.csv: all 40 rows have the label bad")


def test_a_column_of_texts_is_refused_as_label(tmp_path: Path) -> None:
    found = table(tmp_path, [{"text": text(row), "label": f"word {row}"} for row in range(40)])
    assert refusal(found).startswith("t.csv: column label has 40 different values in 40 rows; a label is one of a few")


def test_lists_as_values_are_no_labels(tmp_path: Path) -> None:
    rows = [{"text": text(row), "tags": [row % 2], "kind": "xy"[row % 2]} for row in range(60)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    assert chosen(profile_table(tmp_path / "t.parquet")) == (("text",), "kind")
