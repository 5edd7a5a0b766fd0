"""Where models err: ``stillhouse report --classes``, and what ``stillhouse show`` prints of a student."""

import csv
import io
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.artifacts.evaluations import evaluations_on, teacher_store
from pipeline.artifacts.record import Record, find, parsed_records
from pipeline.cli.last_sets import resolve_built
from pipeline.cli.report import check_folder_of, write_out
from pipeline.cli.request import WIDE, Request, storage_errors, terminal
from pipeline.errors import RequestError, first_line
from pipeline.report.by_class import MOST, ModelErrors, errors_of_recipe, errors_on, texts_of
from pipeline.report.rows import read_results
from pipeline.storage import Storage
from stages.evaluation.by_class import ClassReport, TeacherAgreement
from stages.specs.corpus import CorpusSpec
from stages.specs.evaluation import EvaluateSpec
from stages.specs.student import DistilSpec
from stages.specs.tasks import Task

WIDEST = 12
"""The most classes whose confusion matrix is printed."""


def report_classes(request: Request, form: str, out: Path | None, as_written: bool) -> None:
    """Print where each model of a recipe errs as ``form`` (table, json, csv), or write it to ``out``. Without a
    ``--set``, that of the last run counts, unless ``as_written``. Raises RequestError."""
    if form == "html":
        raise RequestError("--classes: there is no page of it; give --format table, json or csv")
    if out is not None:
        check_folder_of(out)
    resolved = resolve_built(request, as_written)
    with storage_errors(resolved.storage):
        found = errors_of_recipe(read_results(resolved.graph, resolved.storage))
    if form == "table" and out is None:
        print_classes(found, terminal())
        return
    write_out(as_text(found, form), out)


def as_text(found: Sequence[ModelErrors], form: str) -> str:
    """The errors in a format of ``--format``."""
    stream = io.StringIO()
    if form == "json":
        return json.dumps([asdict(one) for one in found], indent=1, ensure_ascii=False) + "\n"
    if form == "csv":
        writer = csv.DictWriter(stream, CSV)
        writer.writeheader()
        writer.writerows(_csv_rows(found))
        return stream.getvalue()
    print_classes(found, Console(file=stream, highlight=False, width=WIDE))
    return stream.getvalue()


MODEL_FIELDS = ("task", "method", "student", "seed", "split")
CSV = (*MODEL_FIELDS, "label", "rows", "predicted", "precision", "recall", "f1")


def _csv_rows(found: Sequence[ModelErrors]) -> Iterator[dict[str, object]]:
    """A row for each model, split and class."""
    for one in found:
        model = {name: getattr(one, name) for name in MODEL_FIELDS}
        yield from ({**model, **asdict(score)} for score in (one.classes.classes if one.classes else ()))


def print_classes(found: Sequence[ModelErrors], console: Console) -> None:
    """Print for each task and split a table with the scores of each class, means over seeds."""
    for (task, split), of_split in groupby(sorted(found, key=_split_of), key=_split_of):
        models: dict[tuple[str, str], list[ModelErrors]] = {}
        for one in of_split:
            models.setdefault((one.method, one.student), []).append(one)
        table = Table(title=f"{task}, {split}", title_justify="left", header_style="bold")
        for head in ("method", "student", "as the teacher", "class"):
            table.add_column(head, overflow="fold")
        for head in ("rows", "precision", "recall", "F1"):
            table.add_column(head, justify="right")
        for (method, student), seeds in models.items():
            same = [one.teacher.same for one in seeds if one.teacher and one.teacher.same is not None]
            agreement = f"{statistics.fmean(same):.1f} %" if same else ""
            lines = list(_class_lines(seeds)) or [("", "", "", "", "")]
            for number, line in enumerate(lines):
                first = (method, student, agreement) if number == 0 else ("", "", "")
                table.add_row(*map(Text, (*first, *line)), end_section=number == len(lines) - 1)
        console.print(table)
    if found:
        more = (
            "stillhouse show NAME prints the confusion matrix of a student, and the rows on which it differs most from"
        )
        console.print(f"{more} its teacher.", soft_wrap=True)


def _split_of(one: ModelErrors) -> tuple[str, str]:
    return one.task, one.split


def _class_lines(seeds: Sequence[ModelErrors]) -> Iterator[tuple[str, str, str, str, str]]:
    """The label, the rows and the three scores of each class, means over the seeds of a model."""
    reports = [one.classes for one in seeds if one.classes is not None]
    for scores in zip(*(report.classes for report in reports), strict=True):
        means = [
            f"{statistics.fmean(values):.1f}"
            for values in zip(*((one.precision, one.recall, one.f1) for one in scores), strict=True)
        ]
        yield scores[0].label, f"{scores[0].rows:,}", means[0], means[1], means[2]


# --- one student ----------------------------------------------------------------------------------


def show_errors(record: Record, storage: Storage, console: Console) -> None:
    """Print where the model of a training, or of an evaluation, errs on each split with labels; nothing where it has no
    evaluation. Where that or the corpus is damaged, a line says so."""
    found = _evaluated(record, storage)
    corpus = None if found is None else find(storage, CorpusSpec.stage, found[1].inputs["corpus"])
    if found is None or corpus is None:
        return
    try:
        _show_errors(*found, corpus, storage, console)
    except ValueError as error:
        console.print(f"its errors cannot be shown: {first_line(error)}", style="yellow", soft_wrap=True, markup=False)


def _show_errors(
    training: Record | None,
    evaluation: Record,
    known: Mapping[str, Record],
    corpus: Record,
    storage: Storage,
    console: Console,
) -> None:
    task = CorpusSpec.model_validate(corpus.spec).task
    store = None if training is None else teacher_store(training, storage)
    teacher = None if store is None else known.get(store.inputs.get("model", ""))
    for split in evaluation.facts["scores"]:
        classes, agreement = errors_on(task, evaluation, teacher, split, storage, MOST)
        if classes is not None:
            print_confusion(classes, split, console)
        if agreement is not None:
            texts = texts_of(corpus, split, storage)
            print_disagreements(task, agreement, texts, split, console)


def _evaluated(record: Record, storage: Storage) -> tuple[Record | None, Record, Mapping[str, Record]] | None:
    """The training of a model (None for one from outside), its evaluation, and all evaluations on its corpus."""
    known = evaluations_on(record.inputs.get("corpus", ""), storage)
    if record.stage == DistilSpec.stage:
        return (record, known[record.key], known) if record.key in known else None
    if record.stage != EvaluateSpec.stage:
        return None
    trainings = parsed_records(storage, DistilSpec.stage).values()
    own = (one for one in trainings if isinstance(one, Record) and one.key == record.inputs.get("model"))
    return next(own, None), record, known


def print_confusion(report: ClassReport, split: str, console: Console) -> None:
    """Print the confusion matrix with the scores of each class; above ``WIDEST`` classes, and for entities, the scores
    alone."""
    labels = [one.label for one in report.classes]
    shown = labels if len(labels) <= WIDEST and report.confusion else []
    title = f"{split}: rows by label, and by predicted label (in columns)" if shown else f"{split}: classes"
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("label", overflow="fold")
    for head in (*shown, "rows", "precision", "recall", "F1"):
        table.add_column(Text(head), justify="right", overflow="fold")
    for one, counts in zip(report.classes, report.confusion or [()] * len(labels), strict=True):
        cells = [f"{count:,}" for count in counts] if shown else []
        scores = (f"{one.precision:.1f}", f"{one.recall:.1f}", f"{one.f1:.1f}")
        table.add_row(*map(Text, (one.label, *cells, f"{one.rows:,}", *scores)))
    console.print(table)


def print_disagreements(
    task: Task, agreement: TeacherAgreement, texts: Mapping[int, tuple[str, ...]], split: str, console: Console
) -> None:
    """Print how often a student predicts what its teacher does, and the rows on which they differ most."""
    what = "the difference" if task.regression else "half the sum of the differences of their probabilities"
    same = (
        ""
        if agreement.same is None
        else f"predicts as its teacher on {agreement.same:.1f} % of {agreement.rows:,} rows; "
    )
    console.print(
        f"{split}: {same}mean distance {agreement.mean_distance:.3f}, {what}. The rows with the largest:",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
    table = Table("row", "distance", "label", "student", "teacher", "text", header_style="bold")
    for row in agreement.most:
        values = (row.label, row.student, row.teacher)
        shown = ["" if one is None else one if isinstance(one, str) else f"{one:.2f}" for one in values]
        text = " | ".join(texts.get(row.index, ()))
        table.add_row(str(row.index), f"{row.distance:.3f}", *map(Text, shown), Text(text))
    console.print(table)
