"""``stillhouse init``: a first recipe from data files, which are read to the end for it."""

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from pipeline.cli.data.teacher import teacher_files
from pipeline.errors import RequestError, bounded, first_line, nearest
from pipeline.recipe import parse
from pipeline.recipe.starter.template import StarterFacts, described, starter_recipe
from pipeline.recipe.yaml import parse_yaml
from stages.corpus.inspection.columns import ColumnChoice, label_column, label_names, text_columns
from stages.corpus.inspection.lengths import row_length
from stages.corpus.inspection.profile import TableProfile, profile_table
from stages.corpus.inspection.split_names import TEST, splits_of, task_name
from stages.corpus.sources import file_source
from stages.corpus.survey import TaskSurvey, check_size, survey_task
from stages.files.kinds import check_regular
from stages.files.rows import shown_names
from stages.specs.corpus import CorpusSpec
from stages.specs.tasks import CUT_DEV, TRAIN, Task

Ask = Callable[[str, str], str]
"""A question to the user and its default answer -> the answer."""

MOST_TEXTS = 2


@dataclass(frozen=True, slots=True)
class InitRequest:
    """The command line: data files, and what is given of the columns of text, the column of labels, the teacher, the
    recipe's file, and where its results are to be kept."""

    files: tuple[str, ...]
    text: tuple[str, ...]
    label: str | None
    teacher: str
    out: Path
    storage: str


def init_recipe(request: InitRequest, ask: Ask | None) -> None:
    """Write a recipe and print what was assumed. ``ask`` is for columns that are not clear; None: refuse such a file.
    Raises RequestError."""
    check_is_new(request.out)
    teacher = teacher_files(request.teacher)
    with _file_errors():
        files = splits_of([_data_file(name) for name in request.files])
        named = bool(request.text) and request.label is not None
        tables = {split: profile_table(path, check_header=not named) for split, path in files.items()}
    train = tables[TRAIN]
    text = _texts(train, request, ask)
    label = _label(train, text, request, ask)
    with _file_errors():
        task = _task(files, text, label, label_names(tables, label))
        found = _survey(task, files)
        length = row_length(train.sampled(text), teacher.directory, teacher.positions)
    facts = StarterFacts(
        file=str(request.out),
        storage=request.storage,
        task=task,
        files={split: str(path) for split, path in files.items()},
        rows=found.rows[TRAIN],
        labels=found.splits[TRAIN].labels,
        length=length,
        teacher=teacher.for_task(task),
    )
    recipe = starter_recipe(facts)
    parse(parse_yaml(recipe, str(request.out)))
    _write(request.out, recipe)
    print(described(facts))
    print(f"Wrote {request.out}. Next: stillhouse plan {shlex.quote(str(request.out))}")


def check_is_new(out: Path) -> None:
    """Raise RequestError if the recipe's file exists, or if its folder does not."""
    try:
        exists, has_folder = out.exists() or out.is_symlink(), out.parent.is_dir()
    except OSError as error:
        raise RequestError(f"--out: {error}; give another file name") from error
    if exists:
        raise RequestError(f"--out: {out} exists and is not overwritten; give another file name by --out")
    if not has_folder:
        raise RequestError(f"--out: {out.parent} is no folder; make it, or give another file name by --out")


def _write(out: Path, text: str) -> None:
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        check_is_new(out)
    except OSError as error:
        raise RequestError(f"--out: {out} cannot be written ({first_line(error)}); give another file name") from error


@contextmanager
def _file_errors() -> Iterator[None]:
    """Re-raise a ValueError or OSError about a data file, whose message begins with the file, as RequestError."""
    try:
        yield
    except RequestError:
        raise
    except FileNotFoundError as error:
        raise RequestError(
            f"{error.filename}: there is no such file; give a CSV, TSV, JSONL or Parquet file"
        ) from error
    except (ValueError, OSError) as error:
        raise RequestError(bounded(str(error))) from error


def _data_file(name: str) -> Path:
    if "://" in name:
        raise RequestError(f"{name}: init reads files of this machine; download it first")
    path = Path(name)
    check_regular(path)
    if not path.exists():
        raise RequestError(f"{name}: there is no such file; give a CSV, TSV, JSONL or Parquet file")
    return path


# --- columns --------------------------------------------------------------------------------------


def _texts(train: TableProfile, request: InitRequest, ask: Ask | None) -> tuple[str, ...]:
    """The column of text, or the two of a pair: those of ``--text``, else those that are clear, else the answer."""
    if request.text:
        return _checked_texts(train, request.text, request.label)
    choice = text_columns(train, request.label)
    if not choice.candidates:
        beside = "" if request.label is None else f" beside {shown_names([request.label])}"
        raise RequestError(f"{train.path}: no column of text{beside}{_it_has(train)}; name it by --text")
    if choice.clear:
        return choice.best
    if ask is None:
        example = " ".join(f"--text {_shell_word(name)}" for name in choice.best)
        raise RequestError(
            f"{train.path}: which column is the text is not clear: {_or(choice)}; name one by --text, or two of a "
            f"pair, for example {example}"
        )
    question = f"Columns of text: {_or(choice)}. Which one, or which two of a pair (separated by a comma)?"
    while True:
        answer = _names(ask(question, ",".join(choice.best)), train)
        try:
            return _checked_texts(train, answer, request.label)
        except RequestError as error:
            print(error, file=sys.stderr)


def _checked_texts(train: TableProfile, text: Sequence[str], label: str | None) -> tuple[str, ...]:
    if len(text) > MOST_TEXTS or len(set(text)) != len(text) or not text:
        raise RequestError(f"--text: {shown_names(list(text))}; give one column, or two different ones of a pair")
    for name in text:
        _check_column(train, name, "--text")
        if name == label:
            raise RequestError(f"--text: {shown_names([name])} is given as --label too; give two different columns")
    return tuple(text)


def _label(train: TableProfile, text: Sequence[str], request: InitRequest, ask: Ask | None) -> str:
    """The column of labels: that of ``--label``, else the one that is clear, else the answer."""
    if request.label is not None:
        _check_column(train, request.label, "--label")
        return request.label
    choice, texts = label_column(train, text), shown_names(list(text))
    if not choice.candidates:
        raise RequestError(f"{train.path}: no column of labels beside {texts}{_it_has(train)}; name it by --label")
    if choice.clear:
        return choice.best[0]
    if ask is None:
        raise RequestError(
            f"{train.path}: which column is the label is not clear: {_or(choice)}; name one by --label, for example "
            f"--label {_shell_word(choice.best[0])}"
        )
    while True:
        answer = ask(f"Columns of labels: {_or(choice)}. Which one?", choice.best[0]).strip()
        try:
            _check_column(train, answer, "--label")
            if answer not in text:
                return answer
            print(f"--label: {answer} is the text; give another column", file=sys.stderr)
        except RequestError as error:
            print(error, file=sys.stderr)


def _check_column(train: TableProfile, name: str, option: str) -> None:
    names = [column.name for column in train.columns]
    if name not in names:
        hint = f"; {nearest(name, names)}" if names else ""
        raise RequestError(f"{option}: {train.path} has no column {shown_names([name])}{hint}")


def _names(answer: str, train: TableProfile) -> list[str]:
    """The columns in an answer: a name as it is, or names with commas between them."""
    if any(column.name == answer.strip() for column in train.columns):
        return [answer.strip()]
    return [name.strip() for name in answer.split(",") if name.strip()]


def _or(choice: ColumnChoice) -> str:
    return shown_names(list(choice.candidates))


def _it_has(train: TableProfile) -> str:
    return f"; it has {shown_names([column.name for column in train.columns])}" if train.columns else ""


def _shell_word(name: str) -> str:
    return shlex.quote(name) if name.isprintable() else repr(name)


# --- the task -------------------------------------------------------------------------------------


def _task(files: Mapping[str, Path], text: tuple[str, ...], label: str, labels: tuple[str, ...] | None) -> Task:
    """The task of these files. ValueError for columns that a task cannot have."""
    splits = {kind: tuple(split for split in files if split.startswith(kind)) for kind in (CUT_DEV, TEST)}
    try:
        return Task(
            name=task_name(files[TRAIN]),
            text=text,
            label=label,
            labels=labels,
            metrics=("accuracy",) if labels is not None else ("pearson",),
            dev=splits[CUT_DEV],
            test=splits[TEST],
        )
    except ValidationError as error:
        raise ValueError(f"{files[TRAIN]}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error


def _survey(task: Task, files: Mapping[str, Path]) -> TaskSurvey:
    """What is in the files, which are refused where a plan would refuse them. ValueError in that case."""
    found = survey_task(task, {split: file_source(path, task) for split, path in files.items()})
    try:
        check_size(found, task, float(CorpusSpec.model_fields["holdout"].default), None)
    except ValueError as error:
        raise ValueError(f"{files[TRAIN]}: {error}") from error
    return found
