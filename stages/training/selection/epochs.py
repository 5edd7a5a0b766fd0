"""The selection of the epoch whose weights a training keeps: scores on the selecting split, and the rule."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stages.corpus.rowset import Rowset
from stages.evaluation.likelihood import negative_log_likelihood
from stages.evaluation.predictions import Labels, Logits
from stages.evaluation.scoring import scores
from stages.specs.student import Train
from stages.specs.tasks import Metric, Task

FAR_BELOW = 5.0
"""Points of the selecting metric by which the likeliest epoch may be below the best one without a warning."""


class EpochScores(Protocol):
    """The scores of an epoch by which it is selected: ``SelectionScores.score`` and ``SelectionScores.loss``."""

    @property
    def score(self) -> float: ...
    @property
    def selection_loss(self) -> float: ...


@dataclass(frozen=True, slots=True)
class SelectionScores:
    """The scores of a model on the split that selects the epoch.

    ``metrics`` has every metric of the task x 100, ``score`` the one that selects. ``loss`` is the
    mean negative log-likelihood of the labels in nats, for a regression the mean squared error.
    """

    metrics: dict[str, float]
    score: float
    loss: float


def selection_scores(task: Task, metric: Metric, logits: Logits, rows: Rowset) -> SelectionScores:
    """The scores of ``logits`` [rows, outputs] against the labels of ``rows``, of which at least one is labelled.
    ``metric``, one of the task's, is the one that selects."""
    metrics = scores(task, logits, rows)
    labelled = rows.labelled_places
    loss = selection_loss(task, logits[labelled], rows.labels.numpy()[labelled])
    return SelectionScores(metrics, metrics[metric], loss)


def selection_loss(task: Task, logits: Logits, labels: Labels) -> float:
    """The mean negative log-likelihood of ``labels`` (N,), in nats, or for a regression the mean of (logit - label)^2,
    from ``logits`` [N, outputs]. Computed in float64."""
    if not task.kind.has_classes:
        return float(np.mean((logits[:, 0].astype(np.float64) - labels) ** 2))
    return negative_log_likelihood(logits, labels)


def selection_warnings(train: Train, history: Sequence[EpochScores], best: int) -> list[str]:
    """A warning, in one line, if the epoch of greatest likelihood, ``best`` of ``history`` from 0, scores far below
    another; else []. That happens where a training is sure of its rows after an epoch or two, as with few rows and a
    high learning rate: the first epoch is then the likeliest although it knows least."""
    if train.select_by != "likelihood" or train.select == "last" or not history:
        return []
    top = max(range(len(history)), key=lambda epoch: history[epoch].score)
    lost = history[top].score - history[best].score
    if not lost > FAR_BELOW:
        return []
    return [
        f"epoch {best + 1} was kept, the likeliest, whose score {history[best].score:.1f} is {lost:.1f} below that of "
        f"epoch {top + 1}; give a lower learning_rate or fewer epochs, or select_by: metric"
    ]


def is_selected(train: Train, epoch: EpochScores, best: EpochScores | None) -> bool:
    """Whether the weights of ``epoch``, which has just ended, replace those of ``best``, the epoch selected so far: by
    the rule of ``train.select`` and ``train.select_by``. Of equal epochs the later one is selected."""
    if best is None or train.select == "last":
        return True
    if train.select_by == "likelihood":
        return epoch.selection_loss <= best.selection_loss
    return epoch.score >= best.score
