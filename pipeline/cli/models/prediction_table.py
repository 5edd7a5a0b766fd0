"""Where ``stillhouse predict`` writes predictions: a file, whole or not at all, or the standard output, with a bar for
the rows done."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.cli.report import check_folder_of
from pipeline.errors import refused
from stages.atomic import replacing
from stages.deployment.predictions import DelimitedWriter, Line, PredictionWriter, check_out, prediction_file
from stages.specs.tasks import Task


def check_target(out: Path | None) -> None:
    """Raise RequestError if no table can be written to ``out``; None stands for the standard output."""
    if out is not None:
        check_folder_of(out)
        with refused("--out"):
            check_out(out)


def write_table(chunks: Iterable[Sequence[Line]], rows: int, task: Task, out: Path | None, files: bool = False) -> None:
    """Write the lines of ``chunks``, ``rows`` in all, to ``out`` when all are there, or as they come to the standard
    output. ``files``: each line begins with the name of a file. Raises RequestError."""

    def write(writer: PredictionWriter) -> None:
        with progress_bar(rows) as advance:
            for lines in chunks:
                writer.write(lines)
                advance(len(lines))

    if out is None:
        write(DelimitedWriter(sys.stdout, task, "csv", files))
        return
    with replacing(out) as draft:
        with prediction_file(draft, out.suffix.lower().removeprefix("."), task, files) as writer:
            write(writer)
        with refused("--out"):
            check_out(out)  # another program may have written it meanwhile
    print(f"{rows:,} predictions: {out}", file=sys.stderr)


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
