"""Scores agree with formulas written out in numpy."""

import numpy as np
import pytest

from stages.evaluation.metrics import score
from stages.specs.tasks import Metric

RNG = np.random.default_rng(7)
LABELS = RNG.integers(0, 2, 200)
GUESSES = np.where(RNG.random(200) < 0.7, LABELS, 1 - LABELS)
SCORES = RNG.random(200).round(2) * 5
NEAR = SCORES + RNG.normal(size=200).round(2)


def counts(guesses: np.ndarray, labels: np.ndarray, positive: int) -> tuple[int, int, int, int]:
    """True positives, false positives, false negatives, true negatives."""
    said, is_ = guesses == positive, labels == positive
    return int((said & is_).sum()), int((said & ~is_).sum()), int((~said & is_).sum()), int((~said & ~is_).sum())


def f1(guesses: np.ndarray, labels: np.ndarray, positive: int) -> float:
    tp, fp, fn, _ = counts(guesses, labels, positive)
    return 2 * tp / (2 * tp + fp + fn)


def centred_cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties at their mean: half of those below and those not above."""
    below = (values[None, :] < values[:, None]).sum(1)
    not_above = (values[None, :] <= values[:, None]).sum(1)
    return np.asarray((below + not_above + 1) / 2)


def test_accuracy_is_the_percentage_that_agrees() -> None:
    assert score("accuracy", GUESSES, LABELS) == pytest.approx(100 * (GUESSES == LABELS).mean())


def test_f1_is_that_of_label_1() -> None:
    assert score("f1", GUESSES, LABELS) == pytest.approx(100 * f1(GUESSES, LABELS, 1))
    assert score("f1", GUESSES, LABELS) != pytest.approx(100 * f1(GUESSES, LABELS, 0))


def test_macro_f1_is_the_mean_of_the_labels_f1() -> None:
    labels, guesses = RNG.integers(0, 4, 300), RNG.integers(0, 4, 300)
    expected = np.mean([f1(guesses, labels, label) for label in range(4)])
    assert score("macro_f1", guesses, labels) == pytest.approx(100 * expected)


def test_matthews_is_the_correlation_of_the_table_of_counts() -> None:
    tp, fp, fn, tn = counts(GUESSES, LABELS, 1)
    expected = (tp * tn - fp * fn) / np.sqrt(float((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))
    assert score("matthews", GUESSES, LABELS) == pytest.approx(100 * expected)


def test_pearson_is_the_cosine_of_what_differs_from_the_mean() -> None:
    assert score("pearson", NEAR, SCORES) == pytest.approx(100 * centred_cosine(NEAR, SCORES))


def test_spearman_is_pearson_of_mean_ranks() -> None:
    expected = centred_cosine(mean_ranks(NEAR), mean_ranks(SCORES))
    assert score("spearman", NEAR, SCORES) == pytest.approx(100 * expected)


def test_spearman_sees_order_alone_and_pearson_does_not() -> None:
    assert score("spearman", np.exp(SCORES), SCORES) == pytest.approx(100)
    assert score("pearson", np.exp(SCORES), SCORES) < 99


@pytest.mark.parametrize("metric", ["matthews", "pearson", "spearman"])
@pytest.mark.filterwarnings("error")
def test_a_correlation_with_constant_predictions_or_labels_is_zero(metric: Metric) -> None:
    constant, varied = np.ones(6, np.int64), np.array([0, 1, 0, 1, 1, 0])
    assert score(metric, constant, varied) == score(metric, varied, constant) == 0.0


@pytest.mark.filterwarnings("error")
def test_f1_without_positives_is_zero() -> None:
    assert score("f1", np.zeros(4, np.int64), np.zeros(4, np.int64)) == 0.0


def test_lengths_that_differ_no_rows_and_what_is_not_finite_are_errors() -> None:
    with pytest.raises(ValueError, match="give one a row"):
        score("accuracy", np.zeros((2, 2)), np.zeros(2))
    with pytest.raises(ValueError, match="no rows"):
        score("accuracy", np.zeros(0), np.zeros(0))
    with pytest.raises(ValueError, match=r"pearson: predictions\[1\] is nan"):
        score("pearson", np.array([0.0, np.nan]), np.array([0.0, 1.0]))
