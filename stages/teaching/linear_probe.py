"""A linear classifier, or ridge regression, on the states of one layer."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score

from stages.evaluation.predictions import Labels, Logits, decide
from stages.outputs.parquet import Array
from stages.outputs.sizes import SHARD_ROWS
from stages.specs.tasks import Task

Floats = npt.NDArray[np.float64]

ROUNDS = 1000
TOLERANCE = 1e-6
"""L-BFGS ends at this gradient of the mean loss, or after ``ROUNDS`` rounds."""


@dataclass(frozen=True, slots=True)
class LabelledStates:
    """Labelled rows: their places [N] in the store, several of which may be equal, and their labels [N]."""

    places: npt.NDArray[np.int64]
    labels: Labels

    def where(self, chosen: npt.NDArray[np.bool_]) -> "LabelledStates":
        """The examples at which ``chosen`` [N] is true."""
        return LabelledStates(self.places[chosen], self.labels[chosen])

    def score(self, logits: Logits, task: Task) -> float:
        """Accuracy x 100 of ``logits`` [rows, outputs], or R2 x 100 of a regression. R2 is not defined where the labels
        are constant: 100 for predictions that equal them, otherwise 0."""
        decided = decide(task, logits[self.places])
        if task.regression:
            if len(self.labels) < 2 or np.ptp(self.labels) == 0:
                return 100.0 * float(np.array_equal(decided, self.labels))
            return 100.0 * float(r2_score(self.labels, decided))
        return 100.0 * float((decided == self.labels).mean())


@dataclass(frozen=True, slots=True)
class Linear:
    """z = states W^T + b for the outputs with the numbers ``known``, of ``outputs`` in all: ``weights`` [known, width]
    and ``bias`` [known]. Any other output gets ``rare`` times the probability of those together."""

    weights: Floats
    bias: Floats
    known: tuple[int, ...]
    outputs: int
    rare: float

    def __call__(self, states: Array) -> Logits:
        """[rows, width] -> [rows, outputs], float32, ``SHARD_ROWS`` rows at a time."""
        logits = np.empty((len(states), self.outputs), np.float32)
        for start in range(0, len(states), SHARD_ROWS):
            part = states[start : start + SHARD_ROWS].astype(np.float64) @ self.weights.T + self.bias
            logits[start : start + SHARD_ROWS] = np.logaddexp.reduce(part, axis=1, keepdims=True) + np.log(self.rare)
            logits[start : start + SHARD_ROWS, list(self.known)] = part
        return logits


def fit(states: Array, examples: LabelledStates, task: Task, penalty: float) -> Linear:
    """A classifier of ``states`` [rows, width] by the labels of ``examples``.

    Minimises the summed cross entropy + penalty/2 |W|^2 (scikit-learn's C is 1/penalty), or the summed squared error +
    penalty |W|^2 for a regression. W is fitted on states whose dimensions are scaled to mean 0 and variance 1 over the
    examples, and is then converted to weights for the states as they are; the bias is not penalised. For two labels one
    weight vector is fitted, and each label gets half of it. A label that no example has cannot be fitted: it gets
    1/(N + labels) of the probability of the others, as in a rule of succession, so that its logit is finite. By the
    same rule all labels are equally likely where there is no example; a regression is 0 there. All in float64: 8 bytes
    x examples x width.
    """
    if not len(examples.labels):
        flat = np.zeros((task.outputs, states.shape[1]))
        return Linear(flat, np.zeros(task.outputs), tuple(range(task.outputs)), task.outputs, 1 / task.outputs)
    given = states[examples.places].astype(np.float64)
    centre, scale = given.mean(0), given.std(0)
    # The mean of equal numbers may be off by rounding: divided by a tiny deviation, that would become large.
    scale[np.ptp(given, axis=0) == 0] = 1.0
    given -= centre
    given /= scale
    known: tuple[int, ...] = (0,)
    if task.regression:
        ridge = Ridge(alpha=penalty, solver="cholesky").fit(given, examples.labels.astype(np.float64))
        weights, bias = ridge.coef_.reshape(1, -1), np.array([ridge.intercept_])
    else:
        weights, bias, known = _classes(given, examples.labels, penalty)
    weights = weights / scale
    rare = 1 / (len(examples.labels) + task.outputs)
    return Linear(weights, bias - weights @ centre, known, task.outputs, rare)


def _classes(given: Floats, labels: Labels, penalty: float) -> tuple[Floats, Floats, tuple[int, ...]]:
    """Weights and bias of each label that occurs, and the numbers of these labels."""
    known = tuple(int(label) for label in np.unique(labels))
    if len(known) == 1:
        return np.zeros((1, given.shape[1])), np.zeros(1), known
    found = LogisticRegression(C=1 / penalty, solver="lbfgs", max_iter=ROUNDS, tol=TOLERANCE).fit(given, labels)
    weights, bias = found.coef_, found.intercept_
    if len(known) == 2:
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    return weights, bias, known
