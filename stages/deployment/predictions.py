"""Predictions as columns, and the files that they are written to: CSV, TSV, JSON lines or Parquet."""

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from stages.files.kinds import TABLES
from stages.specs.tasks import Task

PREDICTION = "prediction"
FILE = "file"
"""The column that names the file of each row, where rows are files."""
PROBABILITY = "probability_"
"""The start of the name of a column with the probability of a label."""

Line = tuple[object, ...]


def check_out(out: Path) -> None:
    """Raise ValueError for a file that exists, or whose name ends in no format that predictions are written in."""
    kind = out.suffix.lower().removeprefix(".")
    if kind not in TABLES:
        raise ValueError(f"{out} ends in none of .{', .'.join(TABLES)}; give a name that does")
    if out.exists():
        raise ValueError(f"{out} exists, and is not overwritten; give another path, or remove it")


def column_names(task: Task, files: bool = False) -> list[str]:
    """The columns of a table of predictions: the file of each row if ``files``, the prediction, and the probability of
    each label."""
    return [*([FILE] if files else []), PREDICTION, *(f"{PROBABILITY}{label}" for label in task.labels or ())]


def lines_of(task: Task, logits: npt.NDArray[np.float32]) -> list[Line]:
    """A line for each row of ``logits`` [rows, outputs]: the label's name and the probability of each label, or of a
    regression the value."""
    if task.labels is None:
        return [(float(value),) for value in logits[:, 0]]
    names = task.labels
    best = logits.argmax(-1)
    return [(names[label], *map(float, row)) for label, row in zip(best, probabilities(logits), strict=True)]


def probabilities(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """[rows, outputs]: the softmax of logits."""
    from scipy.special import softmax

    found: npt.NDArray[np.float32] = softmax(logits.astype(np.float64), axis=-1).astype(np.float32)
    return found


class PredictionWriter(Protocol):
    """Takes lines of predictions in the order of rows."""

    def write(self, lines: Sequence[Line]) -> None:
        """Add these lines."""
        ...


class DelimitedWriter:
    """Lines as CSV or TSV with a header."""

    def __init__(self, stream: IO[str], task: Task, kind: str, files: bool = False) -> None:
        self._writer = csv.writer(stream, delimiter="\t" if kind == "tsv" else ",", lineterminator="\n")
        self._writer.writerow(column_names(task, files))

    def write(self, lines: Sequence[Line]) -> None:
        """Add these lines, with six digits of each number."""
        self._writer.writerows([[_text(value) for value in line] for line in lines])


class JsonLinesWriter:
    """Each line as a JSON object."""

    def __init__(self, stream: IO[str], task: Task, files: bool = False) -> None:
        self._stream, self._names = stream, column_names(task, files)

    def write(self, lines: Sequence[Line]) -> None:
        """Add these lines, with six digits of each number."""
        for line in lines:
            values = [float(_text(value)) if isinstance(value, float) else value for value in line]
            self._stream.write(json.dumps(dict(zip(self._names, values, strict=True)), ensure_ascii=False) + "\n")


class ParquetPredictionWriter:
    """Lines as a row group of a Parquet file for each call."""

    def __init__(self, path: Path, task: Task, files: bool = False) -> None:
        kinds = [pa.float32() if task.labels is None else pa.string(), *(pa.float32() for _ in task.labels or ())]
        kinds = [*([pa.string()] if files else []), *kinds]
        self._schema = pa.schema(list(zip(column_names(task, files), kinds, strict=True)))
        self.file: Any = pq.ParquetWriter(path, self._schema)

    def write(self, lines: Sequence[Line]) -> None:
        """Add these lines."""
        self.file.write_table(pa.table(list(map(list, zip(*lines, strict=True))), schema=self._schema))


@contextmanager
def prediction_file(path: Path, kind: str, task: Task, files: bool = False) -> Iterator[PredictionWriter]:
    """A writer of the file ``path`` in the format ``kind``, one of ``TABLES``. With ``files``, lines begin with the
    name of a file."""
    if kind == "parquet":
        writer = ParquetPredictionWriter(path, task, files)
        with writer.file:
            yield writer
        return
    with path.open("w", encoding="utf-8", newline="") as stream:
        if kind == "jsonl":
            yield JsonLinesWriter(stream, task, files)
        else:
            yield DelimitedWriter(stream, task, kind, files)


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
