"""``stillhouse plan``: what would be reused or built, and how long that takes."""

import json
import sys

from rich.console import Console

from cluster.temporary import temporary_folder
from pipeline.artifacts.provenance import hardware
from pipeline.cli.last_sets import warn_of_same_name
from pipeline.cli.plan_table import as_items, print_plan
from pipeline.cli.request import PlaceChoice, Request, ResolvedRequest, make_plan, resolve, storage_errors, terminal
from pipeline.errors import RequestError, first_line
from pipeline.graph.nodes import Graph
from pipeline.monitor.forecast import forecast, planned_run
from pipeline.plan.advice import bfloat16_instructions, precision_advice
from pipeline.plan.estimate import estimate
from pipeline.plan.extrapolate import PlannedRun
from pipeline.plan.fitting import shared_workers
from pipeline.plan.limits import time_warning
from pipeline.plan.measurements import Measurements, Topics


def plan_recipe(request: Request, form: str, probing: bool = False, inline: bool = False) -> None:
    """Print the plan as ``form``: table or json. With ``probing``, first measure on this machine what the work costs.
    ``inline``: the time is that of a run with --inline. Raises RequestError."""
    resolved = resolve(request)
    warn_of_same_name(resolved.storage, resolved.recipe)
    found = make_plan(resolved, request.stage)
    run = planned_run(found, resolved.recipe, inline)
    measured = Measurements(resolved.storage)
    with storage_errors(resolved.storage):
        if probing and found.builds:
            # The line is no part of the plan's JSON.
            Console(stderr=True, highlight=False).print(run_probe(resolved, run, measured), soft_wrap=True)
        expected = forecast(run, resolved.recipe, measured)
    slow = time_warning(expected.total, resolved.recipe.limits.hours)
    if slow:
        print(f"stillhouse: warning: {slow}", file=sys.stderr)
    if form == "json":
        print(json.dumps(as_items(found, expected), indent=1))
    else:
        machine = hardware()
        advice = "" if machine["gpus"] else precision_advice(found, bfloat16_instructions())
        built = Graph(tuple(step.node for step in found.builds))
        rooms = [] if inline else shared_workers(built, run.resources, run.capacity)
        print_plan(found, expected, terminal(), advice, rooms)


def run_probe(resolved: ResolvedRequest, run: PlannedRun, measured: Measurements) -> str:
    """Measure what the steps without comparable records cost; what was measured, as one line. Raises RequestError."""
    from pipeline.cli.run_plan import open_place
    from pipeline.plan.probe import probe

    for task in resolved.recipe.tasks:
        if task.task.image is not None:
            raise RequestError(f"--probe: measures trainings on texts, and {task.task.name} has images; leave it out")

    recorded = estimate(run.plan, resolved.storage, hardware(), resolved.recipe.resources)
    resolved.storage.check()
    with temporary_folder("probe") as folder:
        try:
            report = probe(
                run,
                lambda: open_place(PlaceChoice(inline=run.inline), folder / "logs", resolved.recipe.limits.pending),
                measured,
                Topics(hardware()),
                lambda node: node.key not in recorded,
                folder,
            )
        except RequestError:
            raise
        except (ValueError, RuntimeError) as error:
            raise RequestError(f"--probe: {first_line(error)}") from error
    return str(report)
