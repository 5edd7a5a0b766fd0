"""Rows that a generator wrote: examples from the students that were trained against one."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.page.trainings import RecordedTraining, by_group
from pipeline.storage import Storage
from stages.specs.student import GENERATED_ROWS

EXAMPLES = 5
"""The rows that are shown of each method, task and student."""


@dataclass(frozen=True, slots=True)
class WrittenRow:
    """A row of train, what the generator made of it, and the probability (of a regression the output) that teacher and
    student give to the row's label before and after."""

    original: str
    generated: str
    label: str
    teacher_before: float
    teacher_after: float
    student_before: float
    student_after: float


@dataclass(frozen=True, slots=True)
class GeneratedExamples:
    """Rows of the student of ``seed``, written by the generator as it was after the training."""

    task: str
    method: str
    student: str
    seed: int
    rows: tuple[WrittenRow, ...]


def generated_examples(trainings: Sequence[RecordedTraining], storage: Storage) -> tuple[GeneratedExamples, ...]:
    """Examples for each task, method and student, from the first seed that has some. Raises OSError where the storage
    does not answer."""
    import pyarrow.parquet as pq

    found = []
    for (task, method, student), group in by_group(trainings).items():
        training = next((one for one in group if GENERATED_ROWS in one.record.files_below()), None)
        if training is None:
            continue
        wanted = {GENERATED_ROWS: training.record.files_below()[GENERATED_ROWS]}
        path = storage.fetch(training.record.folder, wanted) / GENERATED_ROWS
        names = list(WrittenRow.__slots__)
        rows = pq.read_table(path, columns=names).slice(0, EXAMPLES).to_pylist()
        shown = tuple(WrittenRow(**{name: row[name] for name in names}) for row in rows)
        found.append(GeneratedExamples(task, method, student, training.model.seed, shown))
    return tuple(found)
