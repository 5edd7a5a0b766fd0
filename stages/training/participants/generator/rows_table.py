"""A table of rows that a generator made: what it wrote, and the outputs of teacher and student for it."""

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
from stages.models.predict import autocast
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


@dataclass(frozen=True, slots=True)
class Reading:
    """The models whose outputs the table has: those of the teachers that ``request`` names, and the student."""

    teachers: LiveTeachers
    request: OutputRequest
    student: nn.Module
    task: Task

    def outputs(self, batch: Batch, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The score [B] that teacher and student give to each row of ``batch``, from these inputs."""
        teachers = self.teachers
        with autocast(teachers.device, teachers.precision):
            student_BC = forward(self.student, inputs).logits.float()
        teacher_BC = teachers.logits(lambda _: inputs, self.request)
        return scores(batch, self.task, teacher_BC), scores(batch, self.task, student_BC)


def generated_rows(rows: Rowset, change: Change, models: Reading, tokenizer: Path) -> list[GeneratedRow]:
    """The first ``SHOWN`` rows of train, and what ``change`` makes of their inputs. ``tokenizer`` is the folder of the
    student's. The student is left in the mode that it was in."""
    numbers = np.arange(min(SHOWN, len(rows)), dtype=np.int64)
    batch = rows.batch(numbers, models.teachers.device)
    task, training = models.task, models.student.training
    models.student.eval()
    with torch.no_grad():
        changed = change(batch)
        columns = [*models.outputs(batch, batch.inputs), *models.outputs(batch, changed)]
    models.student.train(training)
    words, texts = load_tokenizer(tokenizer), rows.costs[numbers]
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


def scores(batch: Batch, task: Task, logits_BC: Tensor) -> Tensor:
    """[B]: the probability of each row's label; the output itself of a regression."""
    if not task.kind.has_classes:
        return logits_BC[:, 0]
    return logits_BC.softmax(-1).gather(1, batch.labels[:, None]).squeeze(1)
