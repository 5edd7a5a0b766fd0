"""``stillhouse report`` and ``stillhouse curves``: the results of a recipe, and its curves for TensorBoard."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pipeline.artifacts.model_names import names_of_models, write_names
from pipeline.cli.last_sets import resolve_built
from pipeline.cli.request import WIDE, Request, ResolvedRequest, storage_errors, terminal
from pipeline.errors import RequestError
from pipeline.integrations.tensorboard_links import link_curves
from pipeline.report.rows import ReportRow, read_results, rows_of
from pipeline.report.tables import as_csv, as_html, as_json, print_table


def report_recipe(
    request: Request, form: str, out: Path | None, as_written: bool, baseline: str | None, last: bool
) -> None:
    """Print the report as ``form`` (table, json, csv, html), or write it to ``out``. Methods are compared with
    ``baseline``, where given, after the epochs that were selected, or with ``last`` after their last epochs. Without a
    ``--set``, that of the last run counts, unless ``as_written``. Raises RequestError."""
    if out is not None:
        check_folder_of(out)
    if last and baseline is None:
        raise RequestError("--last-epoch: only a comparison has a choice of epochs; give --baseline METHOD, too")
    resolved = resolve_built(request, as_written)
    title, rows = resolved.recipe.name, reported(resolved, baseline, last)
    if form == "table" and out is None:
        print_table(rows, terminal(), title)
        return
    text = as_text(rows, form, title)
    if out is None:
        sys.stdout.write(text)
        return
    try:
        out.write_text(text, "utf-8")
    except OSError as error:
        raise RequestError(f"--out: {out} cannot be written ({error.strerror}); give another path") from error


def reported(resolved: ResolvedRequest, baseline: str | None, last: bool) -> list[ReportRow]:
    """The rows of the report, compared with ``baseline`` where it is given. Models that have no name in the storage yet
    get one. Raises RequestError."""
    if baseline is not None:
        from pipeline.report.baseline import Baseline, check_baseline, rows_with_comparisons

        check_baseline(resolved.graph, baseline)
    with storage_errors(resolved.storage):
        results = read_results(resolved.graph, resolved.storage)
        write_names(names_of_models(resolved.graph, resolved.recipe.name), results.records, resolved.storage)
        if baseline is None:
            return rows_of(results)
        return rows_with_comparisons(results, Baseline(baseline, last))


def as_text(rows: Sequence[ReportRow], form: str, title: str) -> str:
    """The report in a format of ``--format``."""
    match form:
        case "json":
            return as_json(rows)
        case "csv":
            return as_csv(rows)
        case "html":
            return as_html(rows, title)
        case _:
            stream = io.StringIO()
            print_table(rows, Console(file=stream, highlight=False, width=WIDE), title)
            return stream.getvalue()


def curves_of_recipe(request: Request, out: Path, as_written: bool) -> int:
    """Make the links in ``out``, print their names and the command that shows them. Without a ``--set``, that of the
    last run counts, unless ``as_written``. Returns the exit code. Raises RequestError."""
    check_folder_of(out)
    resolved = resolve_built(request, as_written)
    names = link_curves(resolved.graph, resolved.storage, out)
    console = terminal()
    for name in names:
        console.print(name)
    console.print(f"tensorboard --logdir {out}" if names else f"{resolved.recipe.name}: no training has curves yet")
    return 0


def check_folder_of(out: Path) -> None:
    """Raise RequestError if ``out`` cannot be made because its folder does not exist: perhaps it is misspelt."""
    if not out.absolute().parent.is_dir():
        raise RequestError(
            f"--out: {out}, but there is no folder {out.absolute().parent}; make it, or give another path"
        )
