"""Scores of many models on bootstrap samples of their rows: rows are drawn with replacement, the same rows for every
model and metric, so that the scores of two models in one replicate can be subtracted.

A replicate is described by how often it holds each row. Metrics of labels are functions of counts, which are sums over
rows; so the scores of all models in many replicates are one product of two matrices. Shapes: B replicates, N rows, M
models. Needs numpy only.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt

from stages.evaluation.entities import PARTS
from stages.specs.tasks import Metric

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.float32]
Values = npt.NDArray[Any]
Scorer = Callable[[Counts], Floats]
"""How often each replicate holds each row (B, N) -> the share that each model scores in each replicate (B, M)."""

REPLICATES = 10_000
FEWEST_REPLICATES = 2_000
MOST_DRAWS = 100_000_000
"""Rows that are drawn in all replicates of a split together: with more than 10,000 rows, replicates are fewer."""
SPEARMAN_REPLICATES = 2_000
"""Replicates for Spearman's correlation, which has to rank the rows of each replicate."""
CHUNK = 8_000_000
"""Draws that are in memory at one time."""
RANKED_AT_ONCE = 64_000
"""Draws that are ranked at one time: so many that the cache of a processor holds them."""


@dataclass(frozen=True, slots=True)
class ResampledScores:
    """Scores x 100 of M models: on the rows as they are, (M,), and in each replicate, (B, M)."""

    observed: Floats
    replicates: Floats


def replicates_for(rows: int, metric: Metric) -> int:
    """The number of replicates that are drawn for a split of so many rows."""
    if metric == "spearman":
        return SPEARMAN_REPLICATES
    return max(FEWEST_REPLICATES, min(REPLICATES, MOST_DRAWS // rows))


def resampled_scores(
    metrics: Sequence[Metric], predictions: Values, labels: Values, seed: int
) -> Mapping[Metric, ResampledScores]:
    """The scores by metric of ``predictions`` (M, N) against ``labels`` (N,). Equal arguments give equal scores.

    Undefined scores are 0.0, as in ``metrics.score``. Models with equal predictions have equal scores.
    """
    distinct, place = _distinct(predictions)
    scorers = {metric: scorer(metric, distinct, labels) for metric in metrics}
    wanted = {metric: replicates_for(len(labels), metric) for metric in metrics}
    parts: dict[Metric, list[Floats]] = {metric: [] for metric in metrics}
    drawn = 0
    for counts in row_counts(np.random.default_rng(seed), len(labels), max(wanted.values())):
        for metric in metrics:
            if drawn < wanted[metric]:
                parts[metric].append(scorers[metric](counts[: wanted[metric] - drawn]))
        drawn += len(counts)
    every_row_once = np.ones((1, len(labels)), np.float32)
    return {
        metric: ResampledScores(
            100 * scorers[metric](every_row_once)[0, place], 100 * np.concatenate(parts[metric])[:, place]
        )
        for metric in metrics
    }


def row_counts(draw: np.random.Generator, rows: int, replicates: int) -> Iterator[Counts]:
    """How often each replicate holds each row (at most ``CHUNK`` / N, N), until there are ``replicates`` of them. Each
    holds N rows."""
    at_once = max(1, CHUNK // rows)
    for start in range(0, replicates, at_once):
        count = min(at_once, replicates - start)
        drawn = draw.integers(0, rows, (count, rows), np.int32)
        places = (drawn + (np.arange(count, dtype=np.int32) * rows)[:, None]).reshape(-1)
        yield np.bincount(places, minlength=count * rows).astype(np.float32).reshape(count, rows)


def _distinct(predictions: Values) -> tuple[Values, npt.NDArray[np.int64]]:
    """The models with different predictions, and for each model its place among them. A sum of floats depends on its
    place in a matrix, so models with equal predictions are computed once."""
    places: dict[bytes, int] = {}
    place = np.array([places.setdefault(model.tobytes(), len(places)) for model in predictions], np.int64)
    return predictions[np.unique(place, return_index=True)[1]], place


def scorer(metric: Metric, predictions: Values, labels: Values) -> Scorer:
    """What scores replicates of ``predictions`` (M, N) and ``labels`` (N,) by a metric, as a share: 1.0 is perfect."""
    if predictions.dtype.names is not None:
        return _of_entities(metric, predictions)
    match metric:
        case "accuracy":
            correct = _columns(predictions == labels)
            return lambda counts: (counts @ correct).astype(np.float64) / len(labels)
        case "f1":
            hits, predicted, actual = _class_columns(predictions, labels, 1)
            return lambda counts: _ratio(2 * (counts @ hits), counts @ predicted + (counts @ actual)[:, None])
        case "macro_f1":
            return _macro_f1(predictions, labels)
        case "matthews":
            return _matthews(predictions, labels)
        case "pearson":
            return _pearson(predictions, labels)
        case "spearman":
            return _spearman(predictions, labels)
        case "entity_f1" | "entity_precision" | "entity_recall":
            raise ValueError(f"{metric}: needs the counts of entities of each row")
        case _:
            assert_never(metric)


def _of_entities(metric: Metric, counted: Values) -> Scorer:
    """What scores replicates of rows of which entities were counted (``entities.COUNTS``), (M, N)."""
    above, below = PARTS[metric]
    upper = np.ascontiguousarray(counted[above].T, np.float32)
    lower = np.ascontiguousarray(np.sum([counted[name] for name in below], axis=0).T, np.float32)
    return lambda counts: _ratio(len(below) * (counts @ upper), counts @ lower)


def _columns(of_models: npt.NDArray[np.bool_]) -> Counts:
    """A truth value for each model and row (M, N) as a matrix (N, M). Sums of it are exact in float32."""
    return np.ascontiguousarray(of_models.T, np.float32)


def _class_columns(predictions: Values, labels: Values, label: int) -> tuple[Counts, Counts, Counts]:
    """Whether a row is rightly predicted to be of the class (N, M), is predicted to be of it (N, M), is of it (N,)."""
    predicted, actual = predictions == label, labels == label
    return _columns(predicted & actual), _columns(predicted), actual.astype(np.float32)


def _ratio(upper: Values, lower: Values) -> Floats:
    """The quotient in float64, 0.0 where the divisor is 0."""
    found = np.zeros(upper.shape)
    np.divide(upper, lower, out=found, where=lower != 0, dtype=np.float64)
    return found


def _macro_f1(predictions: Values, labels: Values) -> Scorer:
    classes = [_class_columns(predictions, labels, label) for label in np.union1d(predictions, labels)]

    def score(counts: Counts) -> Floats:
        total = np.zeros((len(counts), len(predictions)))
        present = np.zeros_like(total)
        for hits, predicted, actual in classes:
            either = counts @ predicted + (counts @ actual)[:, None]
            total += _ratio(2 * (counts @ hits), either)
            present += either > 0
        return _ratio(total, present)

    return score


def _matthews(predictions: Values, labels: Values) -> Scorer:
    """Gorodkin (2004), which for two classes is Matthews' own formula."""
    classes = [_class_columns(predictions, labels, label)[1:] for label in np.union1d(predictions, labels)]
    correct = _columns(predictions == labels)

    def score(counts: Counts) -> Floats:
        both, of_predicted = np.zeros((len(counts), len(predictions))), np.zeros((len(counts), len(predictions)))
        of_actual = np.zeros((len(counts), 1))
        for predicted_columns, actual_column in classes:
            predicted = (counts @ predicted_columns).astype(np.float64)
            actual = (counts @ actual_column).astype(np.float64)[:, None]
            both += predicted * actual
            of_predicted += predicted**2
            of_actual += actual**2
        rows = float(len(labels))
        covariance = (counts @ correct).astype(np.float64) * rows - both
        return _ratio(covariance, np.sqrt((rows**2 - of_predicted) * (rows**2 - of_actual)))

    return score


NO_VARIANCE = 1e-12
"""A variance below which values count as constant, as a share of the variance over all rows."""


def _standardised(values: Values) -> Floats:
    """Values (..., N) with mean 0 and variance 1 over the rows; all 0.0 where they are constant."""
    found = values.astype(np.float64)
    found -= found.mean(axis=-1, keepdims=True)
    constant = np.ptp(values, axis=-1) == 0
    found[constant] = 0.0
    return _ratio(found, np.broadcast_to(found.std(axis=-1, keepdims=True), found.shape))


def _pearson(predictions: Values, labels: Values) -> Scorer:
    x_MN, y_N = _standardised(predictions), _standardised(labels[None])[0]
    x, xx, xy, y, yy = x_MN.T.copy(), (x_MN**2).T.copy(), (x_MN * y_N).T.copy(), y_N, y_N**2

    def score(counts: Counts) -> Floats:
        shares = counts.astype(np.float64) / len(labels)
        mean_x, mean_y = shares @ x, (shares @ y)[:, None]
        return _correlation(shares @ xy - mean_x * mean_y, shares @ xx - mean_x**2, (shares @ yy)[:, None] - mean_y**2)

    return score


def _correlation(covariance: Floats, one: Floats, other: Floats) -> Floats:
    """Covariance / sqrt(variance x variance), 0.0 where either variance is 0."""
    constant = (one < NO_VARIANCE) | (other < NO_VARIANCE)
    return np.where(constant, 0.0, _ratio(covariance, np.sqrt(np.where(constant, 1.0, one * other))))


@dataclass(frozen=True, slots=True)
class _Order:
    """The rows in the order of their values (N,), and for each place in that order the first and the last place of the
    same value (N,). ``ties``: some values are equal."""

    rows: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    ties: bool

    @staticmethod
    def of(values: Values) -> "_Order":
        rows = np.argsort(values, kind="stable")
        _, starts, sizes = np.unique(values[rows], return_index=True, return_counts=True)
        return _Order(
            rows, np.repeat(starts, sizes), np.repeat(starts + sizes - 1, sizes), ties=len(starts) < len(values)
        )

    def centred_ranks(self, counts: Floats) -> Floats:
        """The ranks of the sorted rows (N, B) in replicates that hold them ``counts`` (N, B) times, also sorted, less
        the mean rank. Equal values have their mean rank, as have the copies of a row."""
        upto = np.cumsum(counts, axis=0)
        below = upto - counts
        if self.ties:
            upto, below = upto[self.last], below[self.first]
        upto += below
        upto -= len(counts)
        upto /= 2
        return upto


def _spearman(predictions: Values, labels: Values) -> Scorer:
    """Pearson's correlation of the ranks within each replicate."""
    of_labels, of_models = _Order.of(labels), [_Order.of(model) for model in predictions]

    def score(counts: Counts) -> Floats:
        at_once = max(1, RANKED_AT_ONCE // len(labels))
        blocks = [counts[start : start + at_once] for start in range(0, len(counts), at_once)]
        return np.concatenate([score_block(block) for block in blocks])

    def score_block(counts: Counts) -> Floats:
        counts_NB = counts.T.astype(np.float64)
        ranks_NB = np.empty_like(counts_NB)
        ranks_NB[of_labels.rows] = of_labels.centred_ranks(counts_NB[of_labels.rows])
        weighted_NB = counts_NB * ranks_NB
        variance = np.einsum("nb,nb->b", weighted_NB, ranks_NB)
        found = np.empty((len(counts), len(predictions)))
        for place, order in enumerate(of_models):
            sorted_NB = counts_NB[order.rows]
            own_NB = order.centred_ranks(sorted_NB)
            covariance = np.einsum("nb,nb->b", own_NB, weighted_NB[order.rows])
            found[:, place] = _correlation(covariance, np.einsum("nb,nb,nb->b", sorted_NB, own_NB, own_NB), variance)
        return found

    return score
