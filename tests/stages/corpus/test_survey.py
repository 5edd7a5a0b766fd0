"""A task's data are read to the end: what cannot be right is refused, what is probably unintended is counted."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest

from stages.corpus.sources import file_source
from stages.corpus.survey import SplitSurvey, TaskSurvey, check_size, survey_task
from stages.specs.tasks import Task

TASK = Task(name="mine", text=("text",), labels=("no", "yes"), test=("test",))
SCORED = Task(name="scored", text=("text",), metrics=("pearson",))
Pairs = Sequence[tuple[str, object]]


def pairs(prefix: str, rows: int) -> list[tuple[str, object]]:
    return [(f"{prefix} {row}", ("no", "yes")[row % 2]) for row in range(rows)]


def found(folder: Path, task: Task = TASK, **splits: Pairs) -> TaskSurvey:
    """The survey of these splits; train and validation are good ones unless they are given."""
    rows = {"train": pairs("train", 20), "validation": pairs("dev", 6), **splits}
    for split, content in rows.items():
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *content])
    return survey_task(task, {split: file_source(folder / f"{split}.csv", task) for split in rows})


def refusal(folder: Path, task: Task = TASK, **splits: Pairs) -> str:
    with pytest.raises(ValueError) as caught:
        found(folder, task, **splits)
    line = str(caught.value).replace(f"{folder}/", "")
    assert "\n" not in line
    return line


def test_rows_labels_and_texts_are_counted(tmp_path: Path) -> None:
    counted = found(tmp_path, test=[("a", -1), ("a", -1), ("b", -1)])
    assert counted.rows == {"train": 20, "validation": 6, "test": 3}
    assert counted.splits["train"] == SplitSurvey(rows=20, labels={"no": 10, "yes": 10}, texts=20, empty=0)
    assert counted.splits["test"] == SplitSurvey(rows=3, labels={"no": 0, "yes": 0}, texts=2, empty=0)
    assert counted.warnings == ()


def test_all_bad_rows_are_counted_and_the_first_three_are_named(tmp_path: Path) -> None:
    bad = [(f"text {row}", row) for row in range(2, 42)]
    line = refusal(tmp_path, train=[*pairs("train", 9000), *bad])
    assert line.startswith("train.csv: 40 of 9,040 rows cannot be used: row 9001 (line 9002), column label: '2' is no")
    assert "row 9003" in line and "row 9004" not in line and line.endswith("; and 37 more")


def test_train_with_a_single_label_is_refused(tmp_path: Path) -> None:
    line = refusal(tmp_path, train=[("a", "yes"), ("b", "yes")])
    assert line == "train.csv: all 2 rows have the label yes; train needs rows of at least 2 labels"


def test_train_with_a_single_score_is_refused(tmp_path: Path) -> None:
    line = refusal(tmp_path, SCORED, train=[("a", 3), ("b", 3)], validation=[("c", 1), ("d", 2)])
    assert line == "train.csv: all 2 rows have the score 3; train needs rows of different scores"


@pytest.mark.parametrize("split", ["validation", "test"])
def test_an_evaluation_split_with_the_rows_of_train_is_refused_in_any_order(tmp_path: Path, split: str) -> None:
    line = refusal(tmp_path, **{split: pairs("train", 20)[::-1]})
    assert line.startswith(f"{split}.csv: the 20 rows of {split} are those of train; ")


def test_evaluation_texts_that_stand_in_train_are_counted(tmp_path: Path) -> None:
    dev = [*pairs("dev", 6), ("TRAIN, 3!", "no"), ("train 4", "yes")]
    assert found(tmp_path, validation=dev).warnings == (
        "2 of 8 rows of validation have a text of train (but for case and punctuation)",
    )


def test_two_evaluation_splits_of_the_same_rows_are_reported(tmp_path: Path) -> None:
    assert found(tmp_path, test=pairs("dev", 6)).warnings == ("test has the rows of validation",)


def test_empty_texts_are_counted(tmp_path: Path) -> None:
    odd = found(tmp_path, train=[*pairs("train", 20), ("", "no"), (" \t ", "no")]).warnings
    assert odd == ("2 of 22 rows of train have an empty text",)


def test_rows_with_one_text_under_two_labels_are_counted(tmp_path: Path) -> None:
    train = [*pairs("train", 20), ("train 0", "yes"), ("train 2", "no"), ("train 3", "no"), ("train 3", "no")]
    odd = found(tmp_path, train=train).warnings
    assert odd == ("5 of 24 rows of train have a text that other rows have under another label",)


def test_a_label_that_no_row_has_is_reported(tmp_path: Path) -> None:
    assert found(tmp_path, validation=[("a", "no")]).warnings == ("no row of validation has the label yes",)


@pytest.mark.parametrize(
    ("texts", "dev", "holdout", "needed"),
    [(1, True, 0.0, 1), (2, True, 0.1, 2), (2, False, 0.0, 2), (3, False, 0.1, 3)],
)
def test_train_needs_a_text_for_each_part_that_is_cut_from_it(
    tmp_path: Path, texts: int, dev: bool, holdout: float, needed: int
) -> None:
    task = TASK if dev else TASK.model_copy(update={"dev": ()})
    split = SplitSurvey(rows=10, labels={}, texts=texts, empty=0)
    check_size(TaskSurvey(splits={"train": split}, warnings=()), task, holdout, None)
    with pytest.raises(
        ValueError,
        match=rf"train: {needed - 1} distinct text\(s\); at least {needed} are needed"
        if needed > 1
        else "train: 0 distinct",
    ):
        check_size(TaskSurvey(splits={"train": split}, warnings=()), task, holdout, needed - 1)


def test_the_memory_of_a_survey_does_not_grow_with_the_texts(tmp_path: Path) -> None:
    import tracemalloc

    rows = 20_000
    with (tmp_path / "train.csv").open("w") as file:
        file.write("text,label\n")
        file.writelines(f"{row} {'x' * 4000},{row % 2}\n" for row in range(rows))
    (tmp_path / "validation.csv").write_text("text,label\na,0\nb,1\n")
    sources = {split: file_source(tmp_path / f"{split}.csv", TASK) for split in ("train", "validation")}
    tracemalloc.start()
    survey_task(TASK, sources)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < rows * 4000 / 5, f"{peak:,} bytes"
