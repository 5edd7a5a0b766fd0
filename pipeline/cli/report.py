"""``stillhouse report``: the results of a recipe."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pipeline.cli.request import WIDE, Request, resolve, storage_errors, terminal
from pipeline.errors import RequestError
from pipeline.report.rows import ReportRow, report
from pipeline.report.tables import as_csv, as_html, as_json, print_table


def report_recipe(request: Request, form: str, out: Path | None) -> None:
    """Print the report as ``form`` (table, json, csv, html), or write it to ``out``. Raises RequestError."""
    resolved = resolve(request)
    with storage_errors(resolved.storage):
        title, rows = resolved.recipe.name, report(resolved.graph, resolved.storage)
    if form == "table" and out is None:
        print_table(rows, terminal(), title)
        return
    text = as_text(rows, form, title)
    if out is None:
        sys.stdout.write(text)
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, "utf-8")
    except OSError as error:
        raise RequestError(f"--out: {out} cannot be written ({error.strerror}); give another path") from error


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
