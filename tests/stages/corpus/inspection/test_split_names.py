"""Which split a file is follows from its name."""

from pathlib import Path

import pytest

from stages.corpus.inspection.split_names import splits_of, task_name


def splits(*names: str) -> dict[str, str]:
    return {split: str(path) for split, path in splits_of([Path(name) for name in names]).items()}


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (("reviews.csv",), {"train": "reviews.csv"}),
        (("my_test.csv",), {"train": "my_test.csv"}),
        (("dev.csv", "TRAIN.csv.gz"), {"train": "TRAIN.csv.gz", "validation": "dev.csv"}),
        (("a-train.tsv", "a.test.tsv", "a_valid.tsv"),
         {"train": "a-train.tsv", "validation": "a_valid.tsv", "test": "a.test.tsv"}),
        (("train/x.csv", "validation/x.csv"), {"train": "train/x.csv", "validation": "validation/x.csv"}),
        (("train.csv", "dev_near.csv", "dev_far.csv"),
         {"train": "train.csv", "validation_near": "dev_near.csv", "validation_far": "dev_far.csv"}),
    ],
)  # fmt: skip
def test_train_dev_and_test_are_told_apart_by_words_in_their_names(files: tuple[str, ...], found: object) -> None:
    assert splits(*files) == found


@pytest.mark.parametrize(
    "files",
    [
        ("a.csv", "b.csv"),
        ("train.csv", "b.csv"),
        ("train.csv", "train_test.csv"),
        ("dev.csv", "test.csv"),
        ("a_train.csv", "b_train.csv"),
        ("train.csv", "dev.csv", "dev.tsv"),
    ],
)
def test_names_that_do_not_tell_are_refused_with_names_that_do(files: tuple[str, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"does not follow from their names .*reviews_train\.csv and reviews_dev\.csv$"
    ):
        splits(*files)


def test_a_kind_of_file_without_columns_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown kind of file '\.txt'"):
        splits("train.txt")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("reviews.csv", "reviews"),
        ("data/My reviews_train.v2.csv.gz", "My-reviews-v2"),
        ("/data/tickets/train.csv", "tickets"),
        ("/train.csv", "task"),
        ("/\u00e9/\u4e00.csv", "task"),
    ],
)
def test_a_task_is_named_after_its_file_or_folder(file: str, name: str) -> None:
    assert task_name(Path(file)) == name
