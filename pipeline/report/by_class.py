"""Where the models of a recipe err: scores of each class, the confusion matrix, and the rows on which a student differs
most from its teacher. From the predictions that evaluations have stored; the statistics are in
``stages/evaluation/by_class.py``."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.artifacts.record import Record, fetch_artifact
from pipeline.errors import refused
from pipeline.graph.nodes import Edge, Node
from pipeline.recipe import TEACHER
from pipeline.report.rows import Results, splits_of, task_of
from pipeline.storage import Storage
from stages.corpus.reader import read_meta, read_row_table, read_split
from stages.evaluation.by_class import ClassReport, TeacherAgreement, class_report, teacher_agreement
from stages.evaluation.predictions import StoredPredictions, predictions_path, read_predictions
from stages.specs.tasks import Task

MOST = 10
"""Rows of disagreement that are listed of a model."""

Texts = Mapping[int, tuple[str, ...]]
"""The index of a row -> its texts."""


@dataclass(frozen=True, slots=True)
class ModelErrors:
    """Where one model errs on one split. ``classes`` is None for a regression; ``teacher`` is None for the teacher
    itself, and where its predictions are not known. ``texts`` are those of the rows in ``teacher.most``, in their
    order; () where the corpus is gone."""

    task: str
    method: str
    student: str
    seed: int
    split: str
    classes: ClassReport | None
    teacher: TeacherAgreement | None
    texts: tuple[tuple[str, ...], ...]


def errors_of_recipe(results: Results, most: int = MOST) -> list[ModelErrors]:
    """Where each evaluated model of a recipe errs on each split with labels, in the order of the report. A student is
    compared with the recipe's teacher. Raises RequestError for predictions that are damaged."""
    records, storage = results.records, results.storage

    @cache
    def texts(corpus: str, split: str) -> Texts:
        record = records[corpus]
        return {} if record is None else texts_of(record, split, storage)

    return [one for node in results.evaluations for one in _errors(node, results, texts, most)]


def _errors(node: Node, results: Results, texts: Callable[[str, str], Texts], most: int) -> Iterator[ModelErrors]:
    record, task = results.records[node.key], task_of(node)
    teachers = [other for other in results.evaluations if other.subject and other.subject.method == TEACHER]
    teacher = next((results.records[other.key] for other in teachers if other.task == node.task), None)
    given = node.inputs["corpus"]
    assert node.subject is not None and isinstance(given, Edge)
    if record is None:
        return
    for split in splits_of(task, record):
        beside = None if node.subject.method == TEACHER else teacher
        classes, agreement = errors_on(task, record, beside, split, results.storage, most)
        rows = agreement.most if agreement is not None else ()
        known = texts(given.source.key, split) if rows else {}
        subject = node.subject
        yield ModelErrors(
            node.task,
            subject.method,
            subject.student,
            subject.seed,
            split,
            classes,
            agreement,
            tuple(known[row.index] for row in rows if row.index in known),
        )


def errors_on(
    task: Task, evaluation: Record, teacher: Record | None, split: str, storage: Storage, most: int
) -> tuple[ClassReport | None, TeacherAgreement | None]:
    """The classes of a model on a split, and how it differs from the teacher, by the records of their evaluations.
    Raises RequestError for predictions that are damaged."""
    own = predictions_of(evaluation, split, storage)
    if own is None:
        return None, None
    other = None if teacher is None else predictions_of(teacher, split, storage)
    return class_report(task, own), None if other is None else teacher_agreement(task, own, other, most)


def predictions_of(evaluation: Record, split: str, storage: Storage) -> StoredPredictions | None:
    """The predictions that an evaluation has stored for a split; None if there are none."""
    files = evaluation.files_below("predictions")
    path = predictions_path(Path(), split).as_posix()
    if path not in files:
        return None
    folder = storage.fetch(evaluation.folder, files)
    with refused("predictions"):
        return read_predictions(predictions_path(folder, split))


def texts_of(corpus: Record, split: str, storage: Storage) -> Texts:
    """The texts of the rows of a split, by their index; the number of an image in their place. Raises RequestError for
    a corpus that is damaged."""
    folder = fetch_artifact(storage, corpus)
    with refused("corpus"):
        if read_meta(folder).task.image is not None:
            return {index: (f"image {index}",) for index in read_row_table(folder, split).index.tolist()}
        rows = read_split(folder, split)
        return dict(zip(rows.index.tolist(), rows.texts(), strict=True))
