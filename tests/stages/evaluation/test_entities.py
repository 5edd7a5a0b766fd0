"""Counts of entities by row give the scores of conlleval, also on resampled rows."""

from itertools import pairwise

import numpy as np
import pytest

from stages.evaluation.entities import counts_by_type, entity_counts, entity_score
from stages.evaluation.resampling import resampled_scores
from stages.specs.tasks import Metric
from stages.tagging.entity_scores import entity_report

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
GENERATOR = np.random.default_rng(3)
OFFSETS = np.r_[0, np.cumsum(GENERATOR.integers(1, 9, 40))]
LABELS = GENERATOR.integers(0, 5, OFFSETS[-1])
PREDICTIONS = np.where(GENERATOR.random(OFFSETS[-1]) < 0.7, LABELS, GENERATOR.integers(0, 5, OFFSETS[-1]))
METRICS: tuple[Metric, ...] = ("entity_f1", "entity_precision", "entity_recall", "accuracy")


def by_row(values: np.ndarray) -> list[list[str]]:
    return [[TAGS[tag] for tag in values[start:end]] for start, end in pairwise(OFFSETS.tolist())]


def test_the_scores_are_those_of_the_whole_report() -> None:
    report = entity_report(by_row(LABELS), by_row(PREDICTIONS))
    counts = entity_counts(TAGS, LABELS, PREDICTIONS, OFFSETS)
    expected = (report.micro.f1, report.micro.precision, report.micro.recall, report.accuracy)
    assert [entity_score(metric, counts) for metric in METRICS] == pytest.approx(expected)
    assert counts_by_type(TAGS, LABELS, PREDICTIONS, OFFSETS) == {
        one.type: (one.entities, one.predicted, one.right) for one in report.by_type
    }


def test_a_share_of_no_entities_is_0() -> None:
    counts = entity_counts(TAGS, np.zeros(4, np.int64), np.zeros(4, np.int64), np.array([0, 3, 4]))
    assert [entity_score(metric, counts) for metric in METRICS] == [0.0, 0.0, 0.0, 100.0]


def test_resampled_scores_start_from_the_observed_ones_and_vary_with_the_rows() -> None:
    counts = entity_counts(TAGS, LABELS, PREDICTIONS, OFFSETS)
    found = resampled_scores(METRICS, counts[None], counts["entities"], 1)
    for metric in METRICS:
        assert found[metric].observed[0] == pytest.approx(entity_score(metric, counts))
        assert found[metric].replicates.mean() == pytest.approx(entity_score(metric, counts), abs=2.0)
        assert 0.5 < found[metric].replicates.std() < 15
