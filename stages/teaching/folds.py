"""Out of fold: what classifiers say of rows that they were not fitted on."""

from collections.abc import Sequence

import numpy as np

from stages.evaluation.predictions import Logits
from stages.outputs.parquet import Array
from stages.specs.tasks import Task
from stages.teaching.linear_probe import Examples, fit


def fold_of(key: bytes, folds: int) -> int:
    """The fold of a row. A key is a hash of the row's texts: neither its place, its label nor other rows matter."""
    return int.from_bytes(key, "little") % folds


def out_of_fold(
    states: Array, keys: Sequence[bytes], examples: Examples, task: Task, penalty: float, folds: int
) -> tuple[Logits, float]:
    """What is said of each row of ``states`` [rows, width], [rows, outputs], and how well the classifiers fit the
    examples that they were fitted on: the mean of their scores.

    A classifier a fold, fitted on the examples of all others. It says what it thinks of the examples of its fold; of a
    row that is no example, the mean of the classifiers' logits is said. A fold may be empty where rows are few.
    """
    fold = np.array([fold_of(key, folds) for key in keys])
    own = np.zeros(len(keys), np.bool_)
    own[examples.places] = True
    said = np.zeros((len(keys), task.outputs), np.float64)
    scores = []
    for number in range(folds):
        others = examples.where(fold[examples.places] != number)
        spoken = fit(states, others, task, penalty)(states)
        mine = own & (fold == number)
        said[mine] = spoken[mine]
        said[~own] += spoken[~own] / folds
        if len(others.labels):
            scores.append(others.score(spoken, task))
    # Where all examples lie in one fold, those of the others are fitted on them: a score there is.
    return said.astype(np.float32), float(np.mean(scores))
