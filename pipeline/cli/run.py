"""``stillhouse run``: plan, build what is missing, print the results."""

import sys

from pipeline.cli.last_sets import note_run, warn_of_same_name
from pipeline.cli.request import Request, make_plan, resolve, storage_errors, terminal
from pipeline.errors import RequestError
from pipeline.execution.runner import Outcome, record_names
from pipeline.report.rows import report
from pipeline.report.tables import print_paths, print_table


def run_recipe(request: Request, address: str | None, inline: bool) -> int:
    """Build what is missing, print the results and failures. Returns the exit code. Raises RequestError."""
    console = terminal()
    if address is not None and inline:
        raise RequestError(f"--address: {address}, but --inline runs in this process; give one of them")
    if address is not None and "://" in address:
        raise RequestError(
            f"--address: {address}; run takes host:port of a Ray head node, or auto; "
            "stillhouse submit takes http://HOST:8265"
        )
    resolved = resolve(request)
    recipe, storage, graph, found = (
        resolved.recipe,
        resolved.storage,
        resolved.graph,
        make_plan(resolved, request.stage),
    )
    warn_of_same_name(storage, recipe)
    if not found.builds:
        note_run(storage, recipe)
        record_names(
            graph, Outcome({step.node.key: step.record for step in found.steps if step.record}), storage, recipe.name
        )
        console.print(f"{recipe.name}: nothing to do, all {len(graph.nodes)} artifacts exist")
        rows = report(graph, storage)
        print_table(rows, console, recipe.name)
        print_paths(rows, console)
        return 0
    storage.check()
    resolved.digests.save()
    resolved.pins.save()
    from pipeline.cli.run_plan import execute

    outcome = execute(recipe, storage, graph, found, address, inline, console)
    with storage_errors(storage):
        rows = report(graph, storage)
    print_table(rows, console, recipe.name)
    for failure in outcome.failures.values():
        if not failure.blocked_by:
            print(f"stillhouse: {failure.node.name}: {failure.message}", file=sys.stderr)
    print_paths(rows, console)
    return 1 if outcome.failures else 0
