"""What the commands with a recipe do."""

import io
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pipeline.compose import compose
from pipeline.errors import RequestError
from pipeline.estimate import estimate
from pipeline.graph import Graph
from pipeline.host import hardware
from pipeline.limits import check_store_limit
from pipeline.listing import as_items, print_plan
from pipeline.outside import Digests, Pins
from pipeline.planner import Plan, plan
from pipeline.recipe import Recipe, load
from pipeline.report import Row, report
from pipeline.storage import Storage, open_storage
from pipeline.tables import as_csv, as_html, as_json, print_places, print_table

WIDE = 200
"""Columns of a table that goes to a file or a pipe."""


@dataclass(frozen=True, slots=True)
class Request:
    """A recipe as it was asked for on the command line."""

    recipe: Path
    sets: tuple[str, ...]
    storage: str | None
    refresh: bool
    stage: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request comes to."""

    recipe: Recipe
    storage: Storage
    digests: Digests
    graph: Graph


def composed(request: Request) -> Asked:
    """Raises RequestError."""
    recipe = load(request.recipe, request.sets, request.storage)
    storage = open_storage(recipe.storage)
    digests = Digests.load(storage.local / ".identity" / "digests.json")
    pins = Pins.load(storage, request.refresh)
    asked = Asked(recipe, storage, digests, compose(recipe, digests, pins))
    digests.save()
    return asked


def planned(asked: Asked, stage: str | None) -> Plan:
    """Raises RequestError."""
    with answering(asked.storage):
        found = plan(asked.graph, asked.storage, asked.recipe.name, stage)
    check_store_limit(found.steps, asked.recipe.limits.store_bytes)
    return found


@contextmanager
def answering(storage: Storage) -> Iterator[None]:
    """What reads a great deal of a storage: that it ceases to answer is told in one line."""
    try:
        yield
    except OSError as error:
        raise RequestError(f"storage: {storage} does not answer ({error}); try again") from error


def terminal() -> Console:
    """The standard output: as wide as the terminal, and wide enough for any table elsewhere."""
    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)


def run_recipe(request: Request, address: str | None, inline: bool) -> int:
    """Run; print the results; return the exit code."""
    console = terminal()
    if address is not None and inline:
        raise RequestError(f"--address: {address}, but --inline runs in this process; give one of them")
    if address is not None and "://" in address:
        raise RequestError(
            f"--address: {address}; run takes host:port of a Ray head node, or auto; "
            "stillhouse submit takes http://HOST:8265"
        )
    asked = composed(request)
    recipe, storage, graph, found = asked.recipe, asked.storage, asked.graph, planned(asked, request.stage)
    if not found.builds:
        console.print(f"{recipe.name}: nothing to do, all {len(graph.nodes)} artifacts are there")
        rows = report(graph, storage)
        print_table(rows, console, recipe.name)
        print_places(rows, console)
        return 0
    storage.check()
    asked.digests.save()
    from pipeline.execute import execute

    outcome = execute(recipe, storage, graph, found, address, inline, console)
    with answering(storage):
        rows = report(graph, storage)
    print_table(rows, console, recipe.name)
    for failure in outcome.failures.values():
        if not failure.blocked_by:
            print(f"stillhouse: {failure.node.name}: {failure.message}", file=sys.stderr)
    print_places(rows, console)
    return 1 if outcome.failures else 0


def plan_recipe(request: Request, form: str) -> None:
    """Print the plan."""
    asked = composed(request)
    found = planned(asked, request.stage)
    seconds = estimate(found, asked.storage, hardware(), asked.recipe.resources)
    if form == "json":
        print(json.dumps(as_items(found, seconds), indent=1))
    else:
        print_plan(found, seconds, terminal())


def report_recipe(request: Request, form: str, out: Path | None) -> None:
    """Print or write the report."""
    asked = composed(request)
    with answering(asked.storage):
        title, rows = asked.recipe.name, report(asked.graph, asked.storage)
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


def as_text(rows: Sequence[Row], form: str, title: str) -> str:
    """The report in one of the forms of ``--format``."""
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


def run_name(clock: float) -> str:
    """A name for this run's logs."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(clock))}-{os.getpid()}"
