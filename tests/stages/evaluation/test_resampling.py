from collections.abc import Sequence

import numpy as np
import pytest

from stages.evaluation.metrics import score
from stages.evaluation.resampling import (
    FEWEST_REPLICATES,
    MOST_DRAWS,
    REPLICATES,
    Values,
    replicates_for,
    resampled_scores,
    row_counts,
)
from stages.specs.tasks import Metric

ROWS = 200
CLASSES: Sequence[tuple[Metric, int]] = (("accuracy", 3), ("f1", 2), ("macro_f1", 4), ("matthews", 2), ("matthews", 4))


def classified(classes: int) -> tuple[Values, Values]:
    """Predictions of 5 models, of which the last predicts one class alone, and labels."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, classes, ROWS)
    other = draw.integers(0, classes, (5, ROWS))
    predictions = np.where(draw.random((5, ROWS)) < 0.3, other, labels)
    predictions[4] = 0
    return predictions, labels


def measured() -> tuple[Values, Values]:
    """Predictions of 5 models, of which one has many equal values and the last is constant, and labels with ties."""
    draw = np.random.default_rng(0)
    labels = np.round(draw.normal(size=ROWS), 1).astype(np.float32)
    predictions = (labels + draw.normal(size=(5, ROWS))).astype(np.float32)
    predictions[3] = np.round(predictions[3])
    predictions[4] = 0.3
    return predictions, labels


@pytest.mark.parametrize(("metric", "classes"), [*CLASSES, ("pearson", 0), ("spearman", 0)])
def test_scores_and_those_of_each_replicate_are_those_of_the_metric_on_the_rows_of_the_replicate(
    metric: Metric, classes: int
) -> None:
    predictions, labels = classified(classes) if classes else measured()
    found = resampled_scores([metric], predictions, labels, 7)[metric]
    assert found.observed == pytest.approx([score(metric, model, labels) for model in predictions], abs=1e-9)
    counts = next(row_counts(np.random.default_rng(7), ROWS, replicates_for(ROWS, metric)))[:20].astype(int)
    expected = [
        [score(metric, np.repeat(model, held), np.repeat(labels, held)) for model in predictions] for held in counts
    ]
    assert found.replicates[:20] == pytest.approx(np.array(expected), abs=1e-9)
    assert found.replicates.shape == (replicates_for(ROWS, metric), 5)


def test_metrics_of_one_call_share_the_rows_of_their_replicates() -> None:
    predictions, labels = classified(2)
    both = resampled_scores(["accuracy", "f1"], predictions, labels, 7)
    for metric in both:
        alone = resampled_scores([metric], predictions, labels, 7)[metric]
        assert np.array_equal(both[metric].replicates, alone.replicates)


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
def test_models_with_equal_predictions_have_equal_scores_to_the_last_bit(metric: Metric) -> None:
    predictions, labels = measured()
    found = resampled_scores([metric], predictions[[0, 1, 2, 0, 2, 1, 0]], labels, 7)[metric]
    for one, other in ((0, 3), (0, 6), (1, 5), (2, 4)):
        assert np.array_equal(found.replicates[:, one], found.replicates[:, other])


def test_a_replicate_holds_as_many_rows_as_there_are() -> None:
    parts = list(row_counts(np.random.default_rng(0), 3_000_000, 5))
    assert sum(map(len, parts)) == 5
    for part in parts:
        assert (part.sum(axis=1) == 3_000_000).all()


def test_many_rows_are_resampled_less_often() -> None:
    assert replicates_for(5000, "accuracy") == REPLICATES
    assert replicates_for(40_000, "accuracy") == MOST_DRAWS // 40_000 < REPLICATES
    assert replicates_for(10_000_000, "accuracy") == FEWEST_REPLICATES
