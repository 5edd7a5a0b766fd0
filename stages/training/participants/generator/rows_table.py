"""A table of rows that a generator made: what it wrote, and what teacher and student say of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from stages.atomic import replacing
from stages.corpus.rowset import Batch, Rowset
from stages.corpus.tokenizer import load_tokenizer
from stages.models.forward import forward
from stages.specs.schedule import OutputRequest
from stages.specs.tasks import Task
from stages.training.live_teachers import LiveTeachers

SHOWN = 20
"""The rows of train that the table has, or all of them if they are fewer."""

Change = Callable[[Batch], Mapping[str, Tensor]]
"""Gives the inputs of a batch as a generator changes them."""


@dataclass(frozen=True, slots=True)
class GeneratedRow:
    """A row of train and what the generator made of it, both as text, with the probabilities that teacher and student
    give to ``label``, the label of the row (for a regression, their outputs)."""

    row: int
    label: str
    original: str
    generated: str
    teacher_before: float
    teacher_after: float
    student_before: float
    student_after: float


def write_generated_rows(path: Path, found: Sequence[GeneratedRow]) -> None:
    """Write the table of these rows."""
    with replacing(path) as draft:
        pq.write_table(pa.Table.from_pylist([asdict(row) for row in found]), draft)


def generated_rows(
    rows: Rowset, change: Change, teachers: LiveTeachers, student: nn.Module, task: Task, tokenizer: Path
) -> list[GeneratedRow]:
    """The first ``SHOWN`` rows of train, and what ``change`` makes of their inputs. ``tokenizer`` is the folder of the
    student's. The student is left in the mode that it was in."""
    numbers = np.arange(min(SHOWN, len(rows)), dtype=np.int64)
    batch = rows.batch(numbers, teachers.device)
    training = student.training
    student.eval()
    with torch.no_grad():
        changed = change(batch)
        columns = [
            scores(batch, task, logits)
            for inputs in (batch.inputs, changed)
            for logits in (teacher_logits(teachers, inputs), forward(student, inputs)[0].float())
        ]
    student.train(training)
    words, texts = load_tokenizer(tokenizer), rows.tokens.lengths[numbers]
    found = []
    for place, (number, length) in enumerate(zip(numbers.tolist(), texts.tolist(), strict=True)):
        before, after = (
            words.decode(inputs["input_ids"][place, :length].tolist()) for inputs in (batch.inputs, changed)
        )
        label = batch.labels[place].item()
        name = task.labels[int(label)] if task.labels is not None else f"{label:g}"
        teacher_before, student_before, teacher_after, student_after = (column[place].item() for column in columns)
        found.append(
            GeneratedRow(number, name, before, after, teacher_before, teacher_after, student_before, student_after)
        )
    return found


def teacher_logits(teachers: LiveTeachers, inputs: Mapping[str, Tensor]) -> Tensor:
    """[B, C]: the mean of all teachers' logits, in equal shares."""
    count = len(teachers.models)
    request = OutputRequest(logits=tuple((number, 1 / count) for number in range(count)))
    return teachers.logits(lambda _: inputs, request)


def scores(batch: Batch, task: Task, logits_BC: Tensor) -> Tensor:
    """[B]: the probability of each row's label; the output itself of a regression."""
    if task.regression:
        return logits_BC[:, 0]
    return logits_BC.softmax(-1).gather(1, batch.labels[:, None]).squeeze(1)
