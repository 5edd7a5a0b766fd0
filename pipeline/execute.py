"""Open a place, carry the plan out there, close it. The only module that chooses between Ray and inline."""

import time
from pathlib import Path

from rich.console import Console

from cluster.inline import Inline
from cluster.resources import Place, Resources
from cluster.session import Session
from pipeline.allot import allot
from pipeline.building import Site
from pipeline.commands import run_name
from pipeline.errors import RequestError
from pipeline.fitting import check_resources
from pipeline.graph import Graph, Node
from pipeline.planner import Plan
from pipeline.recipe import Recipe
from pipeline.runner import Outcome, remember_names, run
from pipeline.stopping import heed_sigterm
from pipeline.view import View


def execute(
    recipe: Recipe, storage: Path, graph: Graph, plan: Plan, address: str | None, inline: bool, console: Console
) -> Outcome:
    """Build what the plan says. Raises RequestError for a place that cannot be reached or cannot serve."""
    logs = storage / ".logs" / run_name(time.time())
    view = View(console, logs, len(plan.builds))
    place = open_place(address, inline, logs, recipe.limits.pending)
    heed_sigterm()
    try:
        capacity = place.capacity()

        def resources(node: Node) -> Resources:
            return allot(node, recipe.resources, capacity)

        built = Graph(tuple(step.node for step in plan.builds))
        for wait in check_resources(built, resources, capacity, recipe.limits.pending):
            view.warn(wait)
        site = Site(storage, recipe.name, place, resources, view, recipe.limits.store_bytes)
        with view.live():
            outcome = run(plan, site)
        remember_names(graph, outcome, storage, recipe.name)
        return outcome
    finally:
        place.close()


def open_place(address: str | None, inline: bool, logs: Path, pending: float) -> Place:
    if inline:
        return Inline()
    try:
        return Session.open(address, logs / "ray.log", pending)
    except ConnectionError as error:
        raise RequestError(str(error)) from error
