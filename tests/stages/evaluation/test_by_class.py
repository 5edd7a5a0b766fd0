"""Scores of classes and disagreements, against counts by hand."""

import numpy as np
import pytest

from stages.evaluation.by_class import class_report, common_rows, distance, teacher_agreement
from stages.evaluation.predictions import Rows, StoredPredictions, decide
from stages.specs.tasks import Task

TASK = Task(name="t", text=("text",), labels=("a", "b", "c"))
NUMBER = Task(name="n", text=("text",), metrics=("pearson",))


def stored(
    task: Task, logits: list[list[float]], labels: list[float], index: list[int] | None = None
) -> StoredPredictions:
    """Predictions whose rows are identified by ``index``; a label of -1 is not public."""
    values = np.array(logits, np.float32)
    numbers = np.array(index if index is not None else range(len(labels)), np.int64)
    given = np.array(labels, np.float32 if task.regression else np.int64)
    rows = Rows(numbers, [bytes([number]) * 16 for number in numbers], given, given != -1)
    return StoredPredictions(rows, decide(task, values), values)


def one_hot(*predicted: int) -> list[list[float]]:
    return [[4.0 if label == at else 0.0 for label in range(3)] for at in predicted]


def test_the_confusion_matrix_counts_labelled_rows_by_label_and_prediction() -> None:
    report = class_report(TASK, stored(TASK, one_hot(0, 0, 1, 1, 2, 0), [0, 1, 1, 1, 2, -1]))
    assert report is not None
    assert report.confusion == ((1, 0, 0), (1, 2, 0), (0, 0, 1))


def test_scores_of_a_class_are_its_shares_of_predicted_and_of_labelled_rows() -> None:
    report = class_report(TASK, stored(TASK, one_hot(0, 0, 1, 1, 0), [0, 1, 1, 1, 1]))
    assert report is not None
    first, second, third = report.classes
    assert (first.label, first.rows, first.predicted) == ("a", 1, 3)
    assert (first.precision, first.recall, first.f1) == pytest.approx((100 / 3, 100, 50))
    assert (second.precision, second.recall, second.f1) == pytest.approx((100, 50, 200 / 3))
    assert (third.rows, third.predicted, third.precision, third.recall, third.f1) == (0, 0, 0, 0, 0)


def test_a_regression_and_rows_without_labels_have_no_classes() -> None:
    assert class_report(NUMBER, stored(NUMBER, [[0.5], [1.0]], [0.5, 1.0])) is None
    assert class_report(TASK, stored(TASK, one_hot(0, 1), [-1, -1])) is None


def test_the_distance_is_the_total_variation_of_the_probabilities() -> None:
    one, other = np.array([[0.3, -1.0, 2.0]], np.float32), np.array([[1.0, 0.0, 0.0]], np.float32)
    shares = [np.exp(logits) / np.exp(logits).sum() for logits in (one[0].astype(float), other[0].astype(float))]
    assert distance(TASK, one, other) == pytest.approx([np.maximum(shares[0] - shares[1], 0).sum()])
    assert distance(TASK, one, one + 3) == pytest.approx([0], abs=1e-7)
    assert distance(NUMBER, np.array([[1.0]], np.float32), np.array([[-0.5]], np.float32)) == pytest.approx([1.5])


def test_the_rows_of_the_largest_distance_come_first_and_equal_ones_by_index() -> None:
    teacher = stored(TASK, one_hot(0, 1, 2, 0), [0, 1, -1, 1])
    student = stored(TASK, [*one_hot(1), [0.0, 1.0, 0.0], *one_hot(0, 0)], [0, 1, -1, 1])
    found = teacher_agreement(TASK, student, teacher, 3)
    assert found is not None and found.rows == 4 and found.same == 50.0
    assert [row.index for row in found.most] == [0, 2, 1]
    first, second, _ = found.most
    assert (first.label, first.student, first.teacher) == ("a", "b", "a")
    assert second.label is None and first.row_key == "00" * 16
    distances = distance(TASK, student.logits, teacher.logits)
    assert found.mean_distance == pytest.approx(distances.mean()) and first.distance == pytest.approx(distances[0])


def test_rows_are_matched_by_index_and_key_and_not_by_their_place() -> None:
    one = stored(TASK, one_hot(0, 1, 2), [0, 1, 2], [5, 6, 7])
    other = stored(TASK, one_hot(2, 1), [2, 1], [7, 6])
    own, theirs = common_rows(one, other)
    assert (own.tolist(), theirs.tolist()) == ([1, 2], [1, 0])
    found = teacher_agreement(TASK, one, other, 9)
    assert found is not None and (found.rows, found.same, found.mean_distance) == (2, 100.0, 0.0)
    assert teacher_agreement(TASK, one, stored(TASK, one_hot(0), [0], [1]), 9) is None


def test_a_regression_lists_values_and_has_no_share_of_equal_predictions() -> None:
    student, teacher = stored(NUMBER, [[0.5], [2.0]], [0.5, 1.0]), stored(NUMBER, [[0.75], [1.0]], [0.5, 1.0])
    found = teacher_agreement(NUMBER, student, teacher, 1)
    assert found is not None and found.same is None and found.mean_distance == pytest.approx(0.625)
    assert (found.most[0].label, found.most[0].student, found.most[0].teacher) == (1.0, 2.0, 1.0)
