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
from pipeline.report.page.lineage import ResultCommands
from pipeline.report.rows import ReportRow, Results, read_results, rows_of
from pipeline.report.tables import as_csv, as_json, print_table


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
    if form == "html":
        from pipeline.report.page.contents import check_can_draw

        check_can_draw()
    resolved = resolve_built(request, as_written)
    title = resolved.recipe.name
    results, rows = reported(resolved, baseline, last)
    if form == "table" and out is None:
        print_table(rows, terminal(), title)
        return
    if form == "html":
        text = as_html(results, rows, title, commands_of(request, resolved, baseline, last))
    else:
        text = as_text(rows, form, title)
    write_out(text, out)


def write_out(text: str, out: Path | None) -> None:
    """Write ``text`` to the file ``out``, or to standard output. Raises RequestError."""
    if out is None:
        sys.stdout.write(text)
        return
    try:
        out.write_text(text, "utf-8")
    except OSError as error:
        raise RequestError(f"--out: {out} cannot be written ({error.strerror}); give another path") from error


def reported(resolved: ResolvedRequest, baseline: str | None, last: bool) -> tuple[Results, list[ReportRow]]:
    """What has been built, and the rows of the report, compared with ``baseline`` where it is given. Models that have
    no name in the storage yet get one. Raises RequestError."""
    if baseline is not None:
        from pipeline.report.baseline import Baseline, check_baseline, rows_with_comparisons

        check_baseline(resolved.graph, baseline)
    with storage_errors(resolved.storage):
        results = read_results(resolved.graph, resolved.storage)
        write_names(names_of_models(resolved.graph, resolved.recipe.name), results.records, resolved.storage)
        if baseline is None:
            return results, rows_of(results)
        return results, rows_with_comparisons(results, Baseline(baseline, last))


def as_text(rows: Sequence[ReportRow], form: str, title: str) -> str:
    """The report as JSON or CSV, or as the table that a terminal shows."""
    match form:
        case "json":
            return as_json(rows)
        case "csv":
            return as_csv(rows)
        case _:
            stream = io.StringIO()
            print_table(rows, Console(file=stream, highlight=False, width=WIDE), title)
            return stream.getvalue()


def as_html(results: Results, rows: Sequence[ReportRow], title: str, commands: ResultCommands) -> str:
    """The report as an HTML page. Raises RequestError."""
    from pipeline.monitor.recorded_run import recorded_run
    from pipeline.monitor.time_picture import time_picture
    from pipeline.report.page.contents import report_html, report_page

    run = recorded_run(results.graph, results.records)
    about = "" if run is None else f"The last run, {run.info.run}: {len(run.node_runs)} artifacts"
    picture = None if run is None else time_picture(run, run.ended, title=about)
    with storage_errors(results.storage):
        page = report_page(results, rows, title, commands, picture)
    return report_html(page, rows)


def commands_of(request: Request, resolved: ResolvedRequest, baseline: str | None, last: bool) -> ResultCommands:
    """The commands that lead to the results of a request: with the recipe and the storage as the user gave them, and
    the ``--set`` of the results, which may be those of the last run."""
    origin = resolved.recipe.origin
    sets = request.sets if origin is None else origin.sets
    return ResultCommands(str(request.recipe), sets, request.storage, baseline, last)


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
