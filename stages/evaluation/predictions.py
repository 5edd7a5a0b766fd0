"""A model's predictions for a split as a table, and their scores. Does not need torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.atomic import replacing
from stages.evaluation.metrics import score
from stages.specs.tasks import Task

Logits = npt.NDArray[np.float32]
Labels = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """The N rows of a split: their numbers, keys and labels. ``labels`` (N,) have no meaning where ``labelled`` (N,) is
    False."""

    index: npt.NDArray[np.int64]
    row_keys: Sequence[bytes]
    labels: Labels
    labelled: npt.NDArray[np.bool_]


def last_predictions_path(folder: Path, split: str) -> Path:
    """Where the artifact of a training, in ``folder``, has the last epoch's predictions for a split: a table as
    ``write_predictions`` makes it. Artifacts of earlier versions have none."""
    return folder / "predictions" / "last" / f"{split}.parquet"


def decide(task: Task, logits: Logits) -> Labels:
    """The predicted label of each row (N,), or the predicted value of a regression (N,), from ``logits`` [N,
    outputs]."""
    return task.kind.predictions(logits)


def scored(task: Task, logits: Logits, labels: Labels, labelled: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Every metric of the task, x 100, over the labelled rows; {} where none is."""
    if not labelled.any():
        return {}
    predictions = decide(task, logits)[labelled]
    return {metric: score(metric, predictions, labels[labelled]) for metric in task.metrics}


def write_predictions(path: Path, task: Task, rows: Rows, logits: Logits) -> None:
    """Write a table of one row for each row of the split: index, row_key, label (null where it is not public),
    prediction, logits."""
    kind = pa.type_for_alias(task.kind.label_type)
    table = pa.table(
        {
            "index": pa.array(rows.index, pa.int64()),
            "row_key": pa.array(rows.row_keys, pa.binary(16)),
            "label": pa.array(rows.labels, kind, mask=~rows.labelled),
            "prediction": pa.array(decide(task, logits), kind),
            "logits": pa.FixedSizeListArray.from_arrays(pa.array(logits.reshape(-1), pa.float32()), task.outputs),
        }
    )
    with replacing(path) as draft:
        pq.write_table(table, draft, compression="zstd")


@dataclass(frozen=True, slots=True)
class StoredPredictions:
    """A table of predictions: the N rows of the split, the prediction for each (N,), which is a label number or the
    value of a regression, and the logits [N, outputs]."""

    rows: Rows
    predictions: Labels
    logits: Logits


def read_predictions(path: Path) -> StoredPredictions:
    """Read a table that ``write_predictions`` wrote. Raises ValueError for a file that cannot be read."""
    try:
        with pq.ParquetFile(path) as file:  # pq.read_table would import pandas
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: cannot be read ({str(error).splitlines()[0]}); run the recipe again") from error
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    # A label that is not known is filled with the prediction, not with 0: pa.scalar would import pandas.
    labels = pc.coalesce(columns["label"], columns["prediction"])
    logits = np.asarray(np.from_dlpack(columns["logits"].flatten()), np.float32)
    return StoredPredictions(
        Rows(
            np.asarray(np.from_dlpack(columns["index"]), np.int64),
            columns["row_key"].to_pylist(),
            np.from_dlpack(labels),
            np.array(columns["label"].is_valid().to_pylist(), bool),
        ),
        np.from_dlpack(columns["prediction"]),
        logits.reshape(-1, table.schema.field("logits").type.list_size),
    )


@dataclass(frozen=True, slots=True)
class LabelledPredictions:
    """The N labelled rows of a table of predictions: what identifies each row (N,), its index and row key, its label
    (N,) and the prediction (N,). Both are label numbers, or values of a regression."""

    rows: npt.NDArray[np.bytes_]
    labels: Labels
    predictions: Labels

    def predictions_for(self, rows: npt.NDArray[np.bytes_]) -> Labels | None:
        """The predictions for ``rows``, in their order; None where these are not the rows of the table."""
        if np.array_equal(self.rows, rows):
            return self.predictions
        if len(self.rows) != len(rows):
            return None
        own, wanted = np.argsort(self.rows), np.argsort(rows)
        if not np.array_equal(self.rows[own], rows[wanted]):
            return None
        found = np.empty_like(self.predictions)
        found[wanted] = self.predictions[own]
        return found


def labelled_predictions(table: StoredPredictions) -> LabelledPredictions:
    """The part of a table whose rows have labels."""
    identities = np.zeros(len(table.rows.index), [("index", ">i8"), ("row_key", "S16")])
    identities["index"] = table.rows.index
    identities["row_key"] = np.array(table.rows.row_keys, "S16")
    known = table.rows.labelled
    return LabelledPredictions(identities.view("S24")[known], table.rows.labels[known], table.predictions[known])


def predictions_path(folder: Path, split: str) -> Path:
    """Where an evaluation keeps the predictions of its model for a split, below the folder of its artifact."""
    return folder / "predictions" / f"{split}.parquet"
