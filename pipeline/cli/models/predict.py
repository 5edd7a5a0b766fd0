"""``stillhouse predict``: labels and probabilities for the rows of a file; of a sentence encoder, embeddings."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.cli.models.embed import check_embeddings_out, embed_rows
from pipeline.cli.models.find_model import FoundModel
from pipeline.cli.report import check_folder_of
from pipeline.errors import RequestError, refused
from stages.atomic import replacing
from stages.deployment.description import ModelDescription
from stages.deployment.predictions import DelimitedWriter, check_out, prediction_file
from stages.deployment.rows import count_rows, text_columns
from stages.models.sentences import is_sentence_encoder


def predict_rows(model: FoundModel, file: Path, text: Sequence[str], out: Path | None) -> None:
    """Predict for each row of ``file``, and write the predictions to ``out``, or as CSV to the standard output.
    ``text`` names the columns; without them, the columns of the model's task are taken. A sentence encoder gives an
    embedding for each row, and ``out`` must be a Parquet file. Raises RequestError."""
    if is_sentence_encoder(model.directory):
        target = check_embeddings_out(out)
        embed_rows(model, file, described(model, file, text), target, progress_bar)
        return
    if out is not None:
        check_folder_of(out)
        with refused("--out"):
            check_out(out)
    description = described(model, file, text)
    with refused("FILE"):
        rows = count_rows(file, description)
    from stages.deployment.predict import open_model, predict_file

    with refused("MODEL"):
        opened = open_model(model.directory, description.max_length)
    with progress_bar(rows) as advance:
        if out is None:
            predict_file(opened, file, description, DelimitedWriter(sys.stdout, description.task, "csv"), advance)
            return
        kind = out.suffix.lower().removeprefix(".")
        with replacing(out) as draft:
            with prediction_file(draft, kind, description.task) as writer:
                predict_file(opened, file, description, writer, advance)
            with refused("--out"):
                check_out(out)  # another program may have written it meanwhile
    print(f"{rows:,} predictions: {out}", file=sys.stderr)


def described(model: FoundModel, file: Path, text: Sequence[str]) -> ModelDescription:
    """What the model is given of ``file``: the columns ``text``, or those of its task. Raises RequestError."""
    if not file.exists():
        raise RequestError(f"FILE: there is no {file}; give a CSV, TSV, JSON lines, Parquet or text file")
    found = model.description()
    with refused("FILE"):
        columns = text_columns(file, found, text)
    with refused("--text"):
        return found if columns == found.task.text else found.with_text(columns)


@contextmanager
def progress_bar(rows: int) -> Iterator[Callable[[int], None]]:
    """A function that is called with the number of rows done. A bar shows them where the standard error is a
    terminal."""
    if not sys.stderr.isatty():
        yield lambda done: None  # noqa: ARG005
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("rows", total=rows)
        yield lambda done: progress.advance(bar, done)
