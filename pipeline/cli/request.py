"""A recipe as it is requested on the command line, and what it resolves to: storage, graph, plan."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pipeline.errors import RequestError
from pipeline.graph.build import build_graph
from pipeline.graph.external_inputs import Digests
from pipeline.graph.hub import Pins
from pipeline.graph.nodes import Graph
from pipeline.plan.limits import check_store_limit
from pipeline.plan.planner import Plan, plan
from pipeline.recipe import Recipe, load
from pipeline.storage import Storage, open_storage

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
class ResolvedRequest:
    """What a request comes to."""

    recipe: Recipe
    storage: Storage
    digests: Digests
    graph: Graph


def resolve(request: Request) -> ResolvedRequest:
    """Raises RequestError."""
    recipe = load(request.recipe, request.sets, request.storage)
    storage = open_storage(recipe.storage)
    digests = Digests.load(storage.local / ".identity" / "digests.json")
    pins = Pins.load(storage, request.refresh)
    resolved = ResolvedRequest(recipe, storage, digests, build_graph(recipe, digests, pins))
    digests.save()
    return resolved


def make_plan(resolved: ResolvedRequest, stage: str | None) -> Plan:
    """Raises RequestError."""
    with answering(resolved.storage):
        found = plan(resolved.graph, resolved.storage, resolved.recipe.name, stage)
    check_store_limit(found.steps, resolved.recipe.limits.store_bytes)
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


def run_name(clock: float) -> str:
    """A name for this run's logs."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(clock))}-{os.getpid()}"
