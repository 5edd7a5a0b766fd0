"""``stillhouse run``: plan, build what is missing, print the results."""

import sys

from pipeline.cli.request import Request, answering, make_plan, resolve, terminal
from pipeline.errors import RequestError
from pipeline.report.rows import report
from pipeline.report.tables import print_places, print_table


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
    resolved = resolve(request)
    recipe, storage, graph, found = (
        resolved.recipe,
        resolved.storage,
        resolved.graph,
        make_plan(resolved, request.stage),
    )
    if not found.builds:
        console.print(f"{recipe.name}: nothing to do, all {len(graph.nodes)} artifacts are there")
        rows = report(graph, storage)
        print_table(rows, console, recipe.name)
        print_places(rows, console)
        return 0
    storage.check()
    resolved.digests.save()
    from pipeline.cli.run_plan import execute

    outcome = execute(recipe, storage, graph, found, address, inline, console)
    with answering(storage):
        rows = report(graph, storage)
    print_table(rows, console, recipe.name)
    for failure in outcome.failures.values():
        if not failure.blocked_by:
            print(f"stillhouse: {failure.node.name}: {failure.message}", file=sys.stderr)
    print_places(rows, console)
    return 1 if outcome.failures else 0
