"""A model's predictions for a split as a table, and their scores. Does not need torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.atomic import replacing
from stages.evaluation.entities import entity_counts, entity_score
from stages.evaluation.metrics import score
from stages.specs.tasks import Task

Logits = npt.NDArray[np.float32]
Labels = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """The N rows of a split: their numbers, keys and labels. ``labels`` (N,) have no meaning where ``labelled`` (N,) is
    False. Where a row has several entries, row i has the labels from ``offsets[i]`` to before ``offsets[i + 1]``."""

    index: npt.NDArray[np.int64]
    row_keys: Sequence[bytes]
    labels: Labels
    labelled: npt.NDArray[np.bool_]
    offsets: npt.NDArray[np.int64] | None = None

    def labelled_entries(self, values: Labels) -> tuple[Labels, npt.NDArray[np.int64]]:
        """Those of ``values``, one for each entry, whose rows have labels, and the offsets of these rows."""
        assert self.offsets is not None
        counts = np.diff(self.offsets)
        return values[np.repeat(self.labelled, counts)], np.r_[0, np.cumsum(counts[self.labelled])]


def last_predictions_path(folder: Path, split: str) -> Path:
    """Where the artifact of a training, in ``folder``, has the last epoch's predictions for a split: a table as
    ``write_predictions`` makes it. Artifacts of earlier versions have none."""
    return folder / "predictions" / "last" / f"{split}.parquet"


def decide(task: Task, logits: Logits) -> Labels:
    """The predicted label of each row (N,), or the predicted value of a regression (N,), from ``logits`` [N,
    outputs]."""
    return task.kind.predictions(logits)


def scored(
    task: Task,
    logits: Logits,
    labels: Labels,
    labelled: npt.NDArray[np.bool_],
    offsets: npt.NDArray[np.int64] | None = None,
) -> dict[str, float]:
    """Every metric of the task, x 100, over the labelled rows; {} where none is. ``offsets`` are those of rows with
    entries (``Rows.offsets``)."""
    if not labelled.any():
        return {}
    if offsets is not None:
        rows = Rows(np.arange(len(labelled)), [], labels, labelled, offsets)
        counts = labelled_counts(task, rows, decide(task, logits))
        return {metric: entity_score(metric, counts) for metric in task.metrics}
    predictions = decide(task, logits)[labelled]
    return {metric: score(metric, predictions, labels[labelled]) for metric in task.metrics}


def labelled_counts(task: Task, rows: Rows, predictions: Labels) -> npt.NDArray[Any]:
    """The counts of entities of each labelled row (``entities.COUNTS``)."""
    assert task.labels is not None
    labels, offsets = rows.labelled_entries(rows.labels)
    return entity_counts(task.labels, labels, rows.labelled_entries(predictions)[0], offsets)


def write_predictions(path: Path, task: Task, rows: Rows, logits: Logits) -> None:
    """Write a table of one row for each row of the split: index, row_key, label (null where it is not public),
    prediction, logits. Rows with entries have a list of each."""
    kind = pa.type_for_alias(task.kind.label_type)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(logits.reshape(-1), pa.float32()), task.outputs)
    predictions = pa.array(decide(task, logits), kind)
    if rows.offsets is None:
        labels = pa.array(rows.labels, kind, mask=~rows.labelled)
    else:
        offsets = pa.array(rows.offsets, pa.int32())
        vectors, predictions = (pa.ListArray.from_arrays(offsets, part) for part in (vectors, predictions))
        labels = pa.ListArray.from_arrays(offsets, pa.array(rows.labels, kind), mask=pa.array(~rows.labelled))
    table = pa.table(
        {
            "index": pa.array(rows.index, pa.int64()),
            "row_key": pa.array(rows.row_keys, pa.binary(16)),
            "label": labels,
            "prediction": predictions,
            "logits": vectors,
        }
    )
    with replacing(path) as draft:
        pq.write_table(table, draft, compression="zstd")


@dataclass(frozen=True, slots=True)
class StoredPredictions:
    """A table of predictions: the N rows of the split, the prediction for each (N,), which is a label number or the
    value of a regression, and the logits [N, outputs]. Rows with entries have these for each entry."""

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
    if pa.types.is_list(columns["prediction"].type):
        return _of_entries(columns)
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


def _of_entries(columns: Mapping[str, Any]) -> StoredPredictions:
    """The predictions in the columns of a table whose rows have entries."""
    counts = np.asarray(columns["prediction"].value_lengths()).astype(np.int64)
    labelled = np.array(columns["label"].is_valid().to_pylist(), bool)
    predictions = np.from_dlpack(columns["prediction"].flatten())
    labels = predictions.copy()
    labels[np.repeat(labelled, counts)] = np.from_dlpack(columns["label"].flatten())
    vectors = columns["logits"].flatten()
    logits = np.asarray(np.from_dlpack(vectors.flatten()), np.float32).reshape(-1, vectors.type.list_size)
    index, keys = np.asarray(np.from_dlpack(columns["index"]), np.int64), columns["row_key"].to_pylist()
    rows = Rows(index, keys, labels, labelled, np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]))
    return StoredPredictions(rows, predictions, logits)


@dataclass(frozen=True, slots=True)
class LabelledPredictions:
    """The N labelled rows of a table of predictions: what identifies each row (N,), its index and row key, its label
    (N,) and the prediction (N,). Both are label numbers, or values of a regression; for labels on words
    ``predictions`` are what was counted of each row (``entities.COUNTS``), and ``labels`` its number of entities."""

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


def labelled_predictions(task: Task, table: StoredPredictions) -> LabelledPredictions:
    """The part of a table whose rows have labels."""
    identities = np.zeros(len(table.rows.index), [("index", ">i8"), ("row_key", "S16")])
    identities["index"] = table.rows.index
    identities["row_key"] = np.array(table.rows.row_keys, "S16")
    known = table.rows.labelled
    if table.rows.offsets is not None:
        counts = labelled_counts(task, table.rows, table.predictions)
        return LabelledPredictions(identities.view("S24")[known], counts["entities"], counts)
    return LabelledPredictions(identities.view("S24")[known], table.rows.labels[known], table.predictions[known])


def predictions_path(folder: Path, split: str) -> Path:
    """Where an evaluation keeps the predictions of its model for a split, below the folder of its artifact."""
    return folder / "predictions" / f"{split}.parquet"
