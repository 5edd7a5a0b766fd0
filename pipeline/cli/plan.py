"""``stillhouse plan``: what would be reused or built."""

import json

from pipeline.artifacts.provenance import hardware
from pipeline.cli.last_sets import warn_of_same_name
from pipeline.cli.plan_table import as_items, print_plan
from pipeline.cli.request import Request, make_plan, resolve, terminal
from pipeline.plan.estimate import estimate


def plan_recipe(request: Request, form: str) -> None:
    """Print the plan as ``form``: table or json. Raises RequestError."""
    resolved = resolve(request)
    warn_of_same_name(resolved.storage, resolved.recipe)
    found = make_plan(resolved, request.stage)
    seconds = estimate(found, resolved.storage, hardware(), resolved.recipe.resources)
    if form == "json":
        print(json.dumps(as_items(found, seconds), indent=1))
    else:
        print_plan(found, seconds, terminal())
