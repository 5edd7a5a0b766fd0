"""Where a model errs: scores of each class, the confusion matrix, and the rows on which it differs most from its
teacher. Pure functions of stored predictions, without torch.

scikit-learn and scipy are imported where a score is computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.evaluation.entities import counts_by_type
from stages.evaluation.predictions import Logits, StoredPredictions
from stages.specs.tasks import Task


@dataclass(frozen=True, slots=True)
class ClassScore:
    """The scores x 100 of one class: ``precision`` is the share of the ``predicted`` rows that have the label, and
    ``recall`` the share of the ``rows`` with the label that are predicted; ``f1`` is their harmonic mean. A share of no
    rows is 0."""

    label: str
    rows: int
    predicted: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class ClassReport:
    """The scores of each class in the order of the task's labels. ``confusion[i][j]`` is the number of rows with label
    ``i`` that were predicted as label ``j``. For labels on words the classes are the types of entities, their ``rows``
    are entities, and there is no confusion matrix (())."""

    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A row on which a student and its teacher differ. ``index`` and ``row_key`` (hexadecimal digits) identify it.

    ``label``, ``student`` and ``teacher`` are names of labels, or values of a regression; ``label`` is None where it is
    not public. ``distance`` is the total variation distance between the two distributions over the labels, from 0 to 1;
    for a regression, the absolute difference."""

    index: int
    row_key: str
    label: str | float | None
    student: str | float
    teacher: str | float
    distance: float


@dataclass(frozen=True, slots=True)
class TeacherAgreement:
    """How a student's predictions for a split differ from its teacher's: the share in percent of the ``rows`` that both
    have with the same prediction (None for a regression), the mean distance, and the rows with the largest
    distances."""

    rows: int
    same: float | None
    mean_distance: float
    most: tuple[Disagreement, ...]


def class_report(task: Task, predictions: StoredPredictions) -> ClassReport | None:
    """The scores of each class over the labelled rows; None for a regression, and where no row has a label."""
    known = predictions.rows.labelled
    if task.labels is None or not known.any():
        return None
    if predictions.rows.offsets is not None:
        return _entity_classes(task.labels, predictions)
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    numbers = list(range(len(task.labels)))
    labels, found = predictions.rows.labels[known], predictions.predictions[known]
    counts = confusion_matrix(labels, found, labels=numbers)
    scores = precision_recall_fscore_support(labels, found, labels=numbers, average=None, zero_division=0.0)
    classes = tuple(
        ClassScore(
            name,
            int(counts[number].sum()),
            int(counts[:, number].sum()),
            *(100 * float(values[number]) for values in scores[:3]),
        )
        for number, name in enumerate(task.labels)
    )
    return ClassReport(classes, tuple(tuple(map(int, row)) for row in counts))


def _entity_classes(tags: Sequence[str], predictions: StoredPredictions) -> ClassReport:
    """The scores of each type of entity."""
    rows = predictions.rows
    labels, offsets = rows.labelled_entries(rows.labels)
    found, _ = rows.labelled_entries(predictions.predictions)
    classes = []
    for kind, (entities, predicted, right) in counts_by_type(tags, labels, found, offsets).items():
        both = entities + predicted
        precision, recall = (100 * right / whole if whole else 0.0 for whole in (predicted, entities))
        classes.append(ClassScore(kind, entities, predicted, precision, recall, 200 * right / both if both else 0.0))
    return ClassReport(tuple(classes), ())


def teacher_agreement(
    task: Task, student: StoredPredictions, teacher: StoredPredictions, most: int
) -> TeacherAgreement | None:
    """How the predictions of a student differ from its teacher's, with at most ``most`` rows, the largest distance
    first; None where they have no row in common, and for labels on words."""
    own, other = common_rows(student, teacher)
    if not len(own) or student.rows.offsets is not None:
        return None
    distances = distance(task, student.logits[own], teacher.logits[other])
    order = np.lexsort((student.rows.index[own], -distances))[:most]
    rows = tuple(
        _disagreement(task, student, teacher, int(own[at]), int(other[at]), float(distances[at])) for at in order
    )
    equal = student.predictions[own] == teacher.predictions[other]
    same = None if task.regression else 100 * float(equal.mean())
    return TeacherAgreement(len(own), same, float(distances.mean()), rows)


def common_rows(
    one: StoredPredictions, other: StoredPredictions
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The places in ``one`` and in ``other`` of the rows that both have, in the order of ``one``."""
    places = {row: place for place, row in enumerate(zip(other.rows.index.tolist(), other.rows.row_keys, strict=True))}
    pairs = [
        (place, places[row])
        for place, row in enumerate(zip(one.rows.index.tolist(), one.rows.row_keys, strict=True))
        if row in places
    ]
    found = np.array(pairs, np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def distance(task: Task, one: Logits, other: Logits) -> npt.NDArray[np.float64]:
    """The distance of each row of two arrays of logits [N, outputs], (N,): half the sum of the absolute differences of
    the probabilities; for a regression, the absolute difference of the values."""
    if task.regression:
        found: npt.NDArray[np.float64] = np.abs(one[:, 0].astype(np.float64) - other[:, 0])
        return found
    from scipy.special import softmax

    first, second = (softmax(logits.astype(np.float64), axis=-1) for logits in (one, other))
    half: npt.NDArray[np.float64] = 0.5 * np.abs(first - second).sum(-1)
    return half


def _disagreement(
    task: Task,
    student: StoredPredictions,
    teacher: StoredPredictions,
    own: int,
    other: int,
    distance: float,
) -> Disagreement:
    labelled = bool(student.rows.labelled[own])
    return Disagreement(
        int(student.rows.index[own]),
        student.rows.row_keys[own].hex(),
        _named(task, student.rows.labels[own]) if labelled else None,
        _named(task, student.predictions[own]),
        _named(task, teacher.predictions[other]),
        distance,
    )


def _named(task: Task, value: float) -> str | float:
    return float(value) if task.labels is None else task.labels[int(value)]
