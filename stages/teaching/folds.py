"""Out-of-fold outputs: those of classifiers for rows that they were not fitted on."""

from collections.abc import Sequence

import numpy as np

from stages.evaluation.predictions import Logits
from stages.outputs.parquet import Array
from stages.specs.tasks import Task
from stages.teaching.linear_probe import LabelledStates, fit


def fold_of(key: bytes, folds: int) -> int:
    """The fold of a row, from 0 to ``folds`` - 1. It depends on the row's texts alone, of which the key is a hash: not
    on the row's place, its label or other rows."""
    return int.from_bytes(key, "little") % folds


def out_of_fold(
    states: Array, keys: Sequence[bytes], examples: LabelledStates, task: Task, penalty: float, folds: int
) -> tuple[Logits, float]:
    """Logits [rows, outputs] for ``states`` [rows, width], and the mean score of the classifiers on the examples that
    they were fitted on.

    There is one classifier a fold, fitted on the examples of all other folds. An example gets the logits of the
    classifier of its own fold; a row that is no example gets the mean of all classifiers' logits. A fold may be empty
    where rows are few.
    """
    fold = np.array([fold_of(key, folds) for key in keys])
    is_example = np.zeros(len(keys), np.bool_)
    is_example[examples.places] = True
    logits = np.zeros((len(keys), task.outputs), np.float64)
    scores = []
    for number in range(folds):
        others = examples.where(fold[examples.places] != number)
        predicted = fit(states, others, task, penalty)(states)
        in_fold = is_example & (fold == number)
        logits[in_fold] = predicted[in_fold]
        logits[~is_example] += predicted[~is_example] / folds
        if len(others.labels):
            scores.append(others.score(predicted, task))
    # Never empty: where all examples lie in one fold, the classifiers of the other folds are fitted on them.
    return logits.astype(np.float32), float(np.mean(scores))
