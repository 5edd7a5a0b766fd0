"""``stillhouse run``: plan, build what is missing, print the results."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from rich.console import Console

from pipeline.artifacts.model_names import names_of_models, standing_names, write_names
from pipeline.artifacts.ownership import note_use
from pipeline.artifacts.record import find_for
from pipeline.cli.last_sets import note_run, warn_of_same_name
from pipeline.cli.request import (
    PlaceChoice,
    Request,
    ResolvedRequest,
    make_plan,
    print_warning,
    resolve,
    storage_errors,
    terminal,
)
from pipeline.errors import RequestError
from pipeline.execution.runner import Failure, Outcome, note_refused, record_names
from pipeline.execution.time_limit import TimeLimitReached
from pipeline.graph.nodes import ReportedModel
from pipeline.monitor.startup import Startup
from pipeline.report.rows import ReportRow, report
from pipeline.report.tables import print_paths, print_table
from stages.gpus import usable_gpus


def run_recipe(request: Request, where: PlaceChoice) -> int:
    """Build what is missing, print the results and failures. Returns the exit code. Raises RequestError."""
    console = terminal()
    check_place(where)
    with Startup(console) as startup:
        startup.step("reading the recipe, and the files and models that it names")
        resolved = resolve(request)
        over, failures = "", dict[str, Failure]()
        try:
            failures |= build_missing(resolved, request.stage, where, console, startup)
        except TimeLimitReached as reached:
            over = str(reached)
    with storage_errors(resolved.storage):
        rows = report(resolved.graph, resolved.storage)
        names = standing_names(resolved.graph, resolved.recipe.name, resolved.storage)
    code = print_results(rows, failures, names, resolved.recipe.name, console)
    if not over:
        return code
    print(f"stillhouse: {over}", file=sys.stderr)
    return 1


def check_place(where: PlaceChoice) -> None:
    """Raise RequestError for an address of another kind than that of a Ray head node, for one beside ``inline``, and
    for ``gpu`` without it or where there is none."""
    address = where.address
    if address is not None and where.inline:
        raise RequestError(f"--address: {address}, but --inline runs in this process; give one of them")
    if address is not None and "://" in address:
        raise RequestError(
            f"--address: {address}; run takes host:port of a Ray head node, or auto; "
            "stillhouse submit takes http://HOST:8265"
        )
    if where.gpu and not where.inline:
        raise RequestError("--gpu: runs stages in this process, on its GPU; give --inline with it, or leave it out")
    if where.gpu and not usable_gpus():
        raise RequestError("--gpu: torch finds no GPU on this machine; leave it out")


def build_missing(
    resolved: ResolvedRequest,
    stage: str | None,
    where: PlaceChoice,
    console: Console,
    startup: Startup,
    warn: Callable[[str], None] = print_warning,
) -> Mapping[str, Failure]:
    """Build what the storage lacks of a recipe, with progress on ``console``; ``startup`` shows the steps until the
    first stage starts. Returns key -> failure of each stage that has no result. ``warn`` is called with each warning of
    the plan. Raises RequestError, and TimeLimitReached with a line on what is left when ``limits.hours`` are over."""
    recipe, storage, graph = resolved.recipe, resolved.storage, resolved.graph
    startup.step(f"looking up in {storage} what is built already")
    found = make_plan(resolved, stage, warn)
    warn_of_same_name(storage, recipe)
    if not found.builds:
        startup.end()
        with suppress(OSError):  # a storage that may only be read: nothing is freed there
            note_use(storage, recipe.name, graph)
        note_run(storage, recipe)
        reused = {step.node.key: step.record for step in found.steps if step.record}
        record_names(graph, Outcome(reused), storage, recipe.name)
        write_names(names_of_models(graph, recipe.name), reused, storage)
        failures = note_refused(found, storage)
        if failures:
            left = len(found.refused) + len(found.blocked)
            console.print(f"{recipe.name}: nothing can be built, {left} stages are refused")
        else:
            console.print(f"{recipe.name}: nothing to do, all {len(graph.nodes)} artifacts exist")
        return failures
    startup.step(f"checking that {storage} can be written")
    storage.check()
    note_use(storage, recipe.name, graph)
    resolved.digests.save()
    resolved.pins.save()
    startup.step("loading the program")
    from pipeline.cli.run_plan import execute

    try:
        return execute(recipe, storage, graph, found, where, console, startup).failures
    except TimeLimitReached:
        left = sum(find_for(storage, step.node) is None for step in found.builds)
        if not left:
            return {}
        raise TimeLimitReached(
            f"limits.hours: {recipe.limits.hours:g}, and that time is over: {left} of {len(found.builds)} stages are "
            "left; finished work is kept, and the same command goes on from there"
        ) from None


def print_results(
    rows: Sequence[ReportRow],
    failures: Mapping[str, Failure],
    names: Mapping[tuple[str, ReportedModel], str],
    recipe: str,
    console: Console,
) -> int:
    """Print the results table, on stderr each stage that failed itself, and where the students are. Returns the exit
    code."""
    print_table(rows, console, recipe)
    for failure in failures.values():
        if not failure.blocked_by:
            print(f"stillhouse: {failure.node.name}: {failure.message}", file=sys.stderr)
    print_paths(rows, names, console)
    return 1 if failures else 0
