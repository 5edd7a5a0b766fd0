"""Scores of a model's logits on a row set, and the table of its predictions."""

from pathlib import Path

from stages.corpus.rowset import Rowset
from stages.evaluation.predictions import Logits as Logits
from stages.evaluation.predictions import Rows, scored, write_predictions
from stages.specs.tasks import Task


def scores(task: Task, logits: Logits, rows: Rowset) -> dict[str, float]:
    """Every metric of the task, x 100, over the labelled rows; {} where none is."""
    return scored(task, logits, rows.labels.numpy(), rows.labelled, rows.offsets)


def keep_predictions(path: Path, task: Task, logits: Logits, rows: Rowset) -> None:
    """Write the predictions for ``rows`` (``write_predictions``); makes the folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = Rows(rows.index, rows.row_keys, rows.labels.numpy(), rows.labelled, rows.offsets)
    write_predictions(path, task, about, logits)
