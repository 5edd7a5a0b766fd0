from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from stages.evaluation.predictions import (
    LabelledPredictions,
    Rows,
    labelled_predictions,
    read_predictions,
    write_predictions,
)
from stages.specs.tasks import Task

TASK = Task(name="mine", text=("sentence",), labels=("no", "yes"))


def write(path: Path, numbers: Sequence[int], labelled: Sequence[bool], right: Sequence[bool]) -> Path:
    """Predictions for rows of these numbers, whose keys end in a zero byte and whose label is the number's parity."""
    labels = np.array(numbers) % 2
    predicted = np.where(right, labels, 1 - labels)
    rows = Rows(np.array(numbers), [bytes([number]) * 15 + b"\0" for number in numbers], labels, np.array(labelled))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_predictions(path, TASK, rows, np.eye(2, dtype=np.float32)[predicted])
    return path


def labelled_predictions_in(path: Path) -> LabelledPredictions:
    return labelled_predictions(TASK, read_predictions(path))


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = read_predictions(write(tmp_path / "a", [3, 4, 6], [True, False, True], [True, True, False]))
    assert found.rows.index.tolist() == [3, 4, 6]
    assert list(found.rows.row_keys) == [bytes([number]) * 15 + b"\0" for number in (3, 4, 6)]
    assert found.rows.labelled.tolist() == [True, False, True]
    assert found.rows.labels[found.rows.labelled].tolist() == [1, 0]
    assert found.predictions.tolist() == [1, 0, 1]
    assert (found.logits.dtype, found.logits.tolist()) == (np.float32, [[0, 1], [1, 0], [0, 1]])


def test_labelled_rows_are_read_with_label_and_prediction(tmp_path: Path) -> None:
    found = labelled_predictions_in(write(tmp_path / "a", [3, 4, 6], [True, False, True], [True, True, False]))
    assert (found.labels.tolist(), found.predictions.tolist()) == ([1, 0], [1, 1])
    assert len(found.rows) == 2


def test_predictions_are_joined_by_row_whatever_the_order(tmp_path: Path) -> None:
    one = labelled_predictions_in(write(tmp_path / "a", [3, 4, 6], [True] * 3, [True, True, False]))
    other = labelled_predictions_in(write(tmp_path / "b", [6, 3, 4], [True] * 3, [False, True, True]))
    assert other.predictions.tolist() == [1, 1, 0]
    found = other.predictions_for(one.rows)
    assert found is not None
    assert found.tolist() == one.predictions.tolist() == [1, 0, 1]


@pytest.mark.parametrize("numbers", [[3, 4], [3, 4, 7], [3, 4, 6, 8]])
def test_predictions_for_other_rows_are_not_joined(tmp_path: Path, numbers: list[int]) -> None:
    one = labelled_predictions_in(write(tmp_path / "a", [3, 4, 6], [True] * 3, [True] * 3))
    many = len(numbers)
    other = labelled_predictions_in(write(tmp_path / "b", numbers, [True] * many, [True] * many))
    assert other.predictions_for(one.rows) is None


def test_a_table_without_labels_has_no_labelled_rows(tmp_path: Path) -> None:
    found = labelled_predictions_in(write(tmp_path / "a", [3, 4], [False] * 2, [True] * 2))
    assert (len(found.rows), len(found.labels), len(found.predictions)) == (0, 0, 0)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match=r"a: cannot be read .*; run the recipe again"):
        read_predictions(tmp_path / "a")
