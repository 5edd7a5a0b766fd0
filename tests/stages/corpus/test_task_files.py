"""Where the files of a task are looked for."""

from pathlib import Path

import pytest

from stages.corpus.task_files import task_files
from stages.specs.tasks import BUILT_IN, Task

TASK = Task(name="mine", text=("a",), labels=("no", "yes"), dev=("dev_one", "dev_two"), test=("test",))


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_files_are_found_by_split_in_any_of_the_four_formats(tmp_path: Path) -> None:
    folder = touch(tmp_path / "mine", "train.csv", "dev_one.tsv", "dev_two.jsonl", "test.parquet")
    assert task_files(tmp_path, TASK) == {
        "train": folder / "train.csv",
        "dev_one": folder / "dev_one.tsv",
        "dev_two": folder / "dev_two.jsonl",
        "test": folder / "test.parquet",
    }


def test_test_splits_are_optional(tmp_path: Path) -> None:
    touch(tmp_path / "mine", "train.csv", "dev_one.csv", "dev_two.csv")
    assert set(task_files(tmp_path, TASK)) == {"train", "dev_one", "dev_two"}


@pytest.mark.parametrize("missing", ["train", "dev_two"])
def test_a_missing_train_or_dev_split_names_what_was_looked_for(tmp_path: Path, missing: str) -> None:
    names = {"train.csv", "dev_one.csv", "dev_two.csv"} - {f"{missing}.csv"}
    folder = touch(tmp_path / "mine", *names)
    with pytest.raises(ValueError, match=rf"{folder} has no {missing}.{{parquet,csv,tsv,jsonl}}"):
        task_files(tmp_path, TASK)


def test_a_task_without_a_dev_split_needs_train_alone(tmp_path: Path) -> None:
    touch(tmp_path / "imp", "train.csv")
    assert set(task_files(tmp_path, BUILT_IN["imp"])) == {"train"}


def test_the_task_is_found_one_folder_down(tmp_path: Path) -> None:
    folder = touch(tmp_path / "extra" / "imp", "train.csv")
    touch(tmp_path / "glue" / "cola", "train.csv")
    assert task_files(tmp_path, BUILT_IN["imp"]) == {"train": folder / "train.csv"}


def test_the_folder_itself_is_preferred_to_one_further_down(tmp_path: Path) -> None:
    folder = touch(tmp_path / "imp", "train.csv")
    touch(tmp_path / "backup" / "imp", "train.csv")
    assert task_files(tmp_path, BUILT_IN["imp"]) == {"train": folder / "train.csv"}


def test_two_folders_with_the_task_are_an_error(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "imp", "train.csv")
    touch(tmp_path / "b" / "imp", "train.csv")
    with pytest.raises(ValueError, match="holds imp more than once"):
        task_files(tmp_path, BUILT_IN["imp"])


def test_two_files_of_one_split_are_an_error(tmp_path: Path) -> None:
    touch(tmp_path / "imp", "train.csv", "train.parquet")
    with pytest.raises(ValueError, match=r"train more than once: train\.csv, train\.parquet"):
        task_files(tmp_path, BUILT_IN["imp"])


def test_a_folder_that_is_not_there_or_lacks_the_task_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a folder"):
        task_files(tmp_path / "nowhere", TASK)
    with pytest.raises(ValueError, match=r"neither .*/mine nor .*/\*/mine is a folder"):
        task_files(tmp_path, TASK)


@pytest.mark.parametrize("name", ["train.CSV", "train.csv.gz", "train.Parquet", "train.TSV.ZST"])
def test_compressed_files_and_upper_case_suffixes_are_found(tmp_path: Path, name: str) -> None:
    folder = touch(tmp_path / "imp", name, "train.xlsx", "training.csv", "train")
    assert task_files(tmp_path, BUILT_IN["imp"]) == {"train": folder / name}
