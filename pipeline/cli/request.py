"""A recipe and options from the command line, and what they resolve to: storage, graph, plan."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pipeline.errors import RequestError
from pipeline.graph.build import build_graph
from pipeline.graph.external.digests import Digests
from pipeline.graph.external.hub import Pins
from pipeline.graph.nodes import Graph
from pipeline.plan.limits import check_memory_limit, check_store_limit, disk_warning
from pipeline.plan.planner import Plan, plan
from pipeline.recipe import Recipe, load
from pipeline.storage import Storage, open_storage

WIDE = 200
"""Columns of a table that is written to a file or a pipe."""


@dataclass(frozen=True, slots=True)
class PlaceChoice:
    """Where the stages of a run are to run: on the Ray at ``address``, ``inline`` in this process (with ``gpu`` side by
    side on its first GPU), or by default on a Ray of its own on this machine."""

    address: str | None = None
    inline: bool = False
    gpu: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A recipe file, with the command line's ``--set``, ``--storage``, ``--refresh`` and ``--stage``."""

    recipe: Path
    sets: tuple[str, ...]
    storage: str | None
    refresh: bool
    stage: str | None


@dataclass(frozen=True, slots=True)
class ResolvedRequest:
    """The recipe after overrides, its storage, the digests of the files and the commits on the hub that it names, and
    its graph."""

    recipe: Recipe
    storage: Storage
    digests: Digests
    pins: Pins
    graph: Graph


def resolve(request: Request, reads_data: bool = True) -> ResolvedRequest:
    """Load the recipe and build its graph; ``reads_data``: read the data of tasks to the end, unless they are known.
    Raises RequestError."""
    return resolve_recipe(load(request.recipe, request.sets, request.storage), reads_data, request.refresh)


def resolve_recipe(recipe: Recipe, reads_data: bool = True, refresh: bool = False) -> ResolvedRequest:
    """As ``resolve``, for a recipe that is loaded already. ``refresh``: look up the latest commits on the hub. Raises
    RequestError."""
    storage = open_storage(recipe.storage)
    digests = Digests.load(storage.local / ".identity" / "digests.json")
    pins = Pins.load(storage, refresh)
    resolved = ResolvedRequest(recipe, storage, digests, pins, build_graph(recipe, digests, pins, reads_data))
    digests.save()
    return resolved


def print_warning(warning: str) -> None:
    """Print a line on the standard error."""
    print(f"stillhouse: warning: {warning}", file=sys.stderr)


def make_plan(resolved: ResolvedRequest, stage: str | None, warn: Callable[[str], None] = print_warning) -> Plan:
    """The plan for the request, or for ``stage`` and what depends on it anew. ``warn`` is called with each warning, a
    line. Raises RequestError."""
    for warning in resolved.graph.warnings:
        warn(warning)
    with storage_errors(resolved.storage):
        found = plan(resolved.graph, resolved.storage, resolved.recipe.name, stage)
    check_store_limit(found.steps, resolved.recipe.limits.store_bytes)
    check_memory_limit(found.steps, resolved.recipe.limits.memory, resolved.recipe.resources)
    full = disk_warning(found.steps, resolved.storage)
    if full:
        warn(full)
    return found


@contextmanager
def storage_errors(storage: Storage) -> Iterator[None]:
    """Re-raise an OSError of a block that reads the storage as RequestError: the storage does not answer."""
    try:
        yield
    except OSError as error:
        raise RequestError(f"storage: {storage} does not answer ({error}); try again") from error


def storage_and_recipe(recipe: str | None, storage: str | None) -> tuple[Storage, str | None]:
    """The storage in which ``show`` and ``verify`` look, and the recipe's name. ``recipe`` is a name or a recipe file;
    a file also says which storage it is, where ``storage`` is None. Raises RequestError."""
    if recipe is None or not (Path(recipe).exists() or recipe.endswith((".yaml", ".yml"))):
        return open_storage(storage or "runs"), recipe
    found = load(Path(recipe), (), storage)
    return open_storage(found.storage), found.name


def terminal() -> Console:
    """A console on the standard output: as wide as the terminal, ``WIDE`` columns where it is no terminal."""
    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)


def run_name(clock: float) -> str:
    """The name of a run, from its start time (seconds since 1970) and this process: 20260101-120000-1234."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(clock))}-{os.getpid()}"
