"""Scores of predictions against labels, times 100. Where a metric is undefined, its score is 0.0 by definition here.

scikit-learn and scipy are imported where a score is computed.
"""

from typing import Any, assert_never

import numpy as np

from stages.specs.tasks import Metric

Values = np.ndarray[Any, np.dtype[Any]]


def score(metric: Metric, predictions: Values, labels: Values) -> float:
    """The metric x 100 of ``predictions`` (N,) against ``labels`` (N,), both label numbers, or both floats.

    ``f1`` is binary, its positive class is label 1. ``macro_f1`` is the mean over the labels that occur in
    either. Where a metric is undefined it is 0.0: the correlations (``matthews``, ``pearson``, ``spearman``) where
    predictions or labels are constant, F1 where label 1 occurs neither among labels nor among predictions.
    Raises ValueError for lengths that differ, no rows, and predictions or labels that are not finite.
    """
    _check(metric, predictions, labels)
    return 100.0 * _share(metric, np.asarray(predictions), np.asarray(labels))


def _check(metric: Metric, predictions: Values, labels: Values) -> None:
    if predictions.shape != labels.shape or predictions.ndim != 1:
        raise ValueError(f"{metric}: {predictions.shape} predictions for {labels.shape} labels; give one a row")
    if not len(labels):
        raise ValueError(f"{metric}: no rows; give at least 1")
    for name, values in (("predictions", predictions), ("labels", labels)):
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(f"{metric}: {name}[{row}] is {values[row]}; all must be finite")


def _share(metric: Metric, predictions: Values, labels: Values) -> float:
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    match metric:
        case "accuracy":
            return float(accuracy_score(labels, predictions))
        case "f1":
            return float(f1_score(labels, predictions, pos_label=1, average="binary", zero_division=0.0))
        case "macro_f1":
            return float(f1_score(labels, predictions, average="macro", zero_division=0.0))
        case "matthews":
            return float(matthews_corrcoef(labels, predictions))
        case "pearson" | "spearman":
            return _correlation(metric, predictions.astype(np.float64), labels.astype(np.float64))
        case "entity_f1" | "entity_precision" | "entity_recall":
            raise ValueError(f"{metric}: is of labels on words; see stages.evaluation.entities")
        case _:
            assert_never(metric)


def _correlation(metric: Metric, predictions: Values, labels: Values) -> float:
    from scipy.stats import pearsonr, spearmanr

    if np.ptp(predictions) == 0.0 or np.ptp(labels) == 0.0:
        return 0.0
    correlate = pearsonr if metric == "pearson" else spearmanr
    return float(correlate(predictions, labels).statistic)
