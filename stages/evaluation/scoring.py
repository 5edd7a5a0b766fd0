"""Scores of a model's logits on a row set."""

from stages.corpus.rowset import Rowset
from stages.evaluation.predictions import Logits as Logits
from stages.evaluation.predictions import scored
from stages.specs.tasks import Task


def scores(task: Task, logits: Logits, rows: Rowset) -> dict[str, float]:
    """Every metric of the task, x 100, over the labelled rows; {} where none is."""
    return scored(task, logits, rows.labels.numpy(), rows.labelled)
