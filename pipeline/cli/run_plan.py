"""Run a plan on Ray or in this process: the only module that chooses between the two."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from cluster.inline import Inline
from cluster.inline_gpu import InlineGpu
from cluster.resources import Place, Resources
from cluster.session import Session
from pipeline.artifacts.attempts import this_process
from pipeline.artifacts.model_names import names_of_models, write_names
from pipeline.artifacts.provenance import hardware
from pipeline.artifacts.record import Record
from pipeline.cli.last_sets import note_run
from pipeline.cli.request import PlaceChoice, run_name
from pipeline.errors import RequestError
from pipeline.execution.build_node import RunContext
from pipeline.execution.code_snapshot import packages_for_workers
from pipeline.execution.job_env import check_relative, report_begun
from pipeline.execution.preparation import prepare
from pipeline.execution.runner import Outcome, record_names, run
from pipeline.execution.signals import interrupt_on_sigterm
from pipeline.execution.student_trial import try_students
from pipeline.execution.visibility import check_visible
from pipeline.graph.nodes import Graph, Node
from pipeline.integrations.tracking import check_tracking, tracked
from pipeline.monitor.run_state import RunCapacity, RunInfo
from pipeline.monitor.run_view import RunSettings, RunView
from pipeline.monitor.startup import Startup
from pipeline.monitor.status import LOGS, PAGE, RUNS
from pipeline.monitor.upload import uploading
from pipeline.plan.estimate import DurationEstimator, read_all
from pipeline.plan.extrapolate import PlannedRun, extrapolated
from pipeline.plan.fitting import check_gpu_parts, check_resources, check_shared_workers
from pipeline.plan.measurements import Measurements, Topics
from pipeline.plan.planner import Plan
from pipeline.plan.resources import allot
from pipeline.recipe import Recipe
from pipeline.report.rows import report
from pipeline.storage import Storage


def execute(
    recipe: Recipe,
    storage: Storage,
    graph: Graph,
    plan: Plan,
    where: PlaceChoice,
    console: Console,
    startup: Startup,
) -> Outcome:
    """Build what the plan says, with progress on ``console``; ``startup`` shows the steps until the first stage starts.
    Raises RequestError, before any work, if a student cannot be built, or if the cluster cannot be reached, lacks
    resources, or its nodes lack files; TimeLimitReached when ``limits.hours`` are over."""
    check_before_work(recipe, plan)
    name = run_name(time.time())
    with opened_place(recipe, storage, name, where, startup) as place:
        return build_on(place, recipe, storage, graph, plan, name, where, console, startup)


def check_before_work(recipe: Recipe, plan: Plan) -> None:
    """Raise RequestError if the tracker's library is missing, or if a student of the plan cannot be built."""
    check_tracking(recipe.tracking)
    if warning := try_students(plan):
        print(f"stillhouse: warning: {warning}", file=sys.stderr)


@contextmanager
def opened_place(recipe: Recipe, storage: Storage, name: str, where: PlaceChoice, startup: Startup) -> Iterator[Place]:
    """The place where stages run, as ``open_place`` opens it, closed at the end of the block. ``name`` is that of the
    run, in whose folder Ray's log is. Raises RequestError."""
    if not where.inline:
        startup.step(f"connecting to Ray at {where.address}" if where.address else "starting Ray on this machine")
    place = open_place(where, storage.local / LOGS / name, recipe.limits.pending)
    interrupt_on_sigterm()
    try:
        yield place
    finally:
        place.close()


def build_on(
    place: Place,
    recipe: Recipe,
    storage: Storage,
    graph: Graph,
    plan: Plan,
    name: str,
    where: PlaceChoice,
    console: Console,
    startup: Startup,
    since: float | None = None,
) -> Outcome:
    """Build what the plan says on ``place``, as the run ``name``. Several runs, one after another, may use one place;
    ``since`` is when the first of them began (seconds since 1970), from which ``limits.hours`` count, by default now.
    Raises RequestError, before any work, if the place lacks resources or its nodes lack files; TimeLimitReached when
    ``limits.hours`` are over."""
    began = time.time()
    logs = storage.local / LOGS / name
    capacity = place.capacity()

    def resources(node: Node) -> Resources:
        allotted = allot(node, recipe.resources, capacity)
        return replace(allotted, workers=1) if where.gpu else allotted  # a thread of this process is one worker

    def read_durations() -> DurationEstimator:
        probed = extrapolated(
            PlannedRun(plan, resources, capacity, where.inline), Measurements(storage), Topics(hardware())
        )
        return DurationEstimator(plan, hardware(), recipe.resources, read_all(storage), probed)

    built = Graph(tuple(step.node for step in plan.builds))
    if place.concurrent:
        check_shared_workers(built, resources, capacity)
    if where.gpu:
        check_gpu_parts(built, resources)
    waits = check_resources(built, resources, capacity, recipe.limits.pending)
    prepare(plan, place, resources)
    startup.step("checking that all nodes see the files")
    check_relative(max(capacity.machines, 2 if waits else 1))
    check_visible(plan, storage, place)
    report_begun(len(plan.builds), len(graph.nodes), len(capacity.nodes))
    note_run(storage, recipe)
    settings = RunSettings(
        RunInfo(name, recipe.name, began, this_process(), storage.url, place.dashboard),
        RunCapacity(capacity.cpus, capacity.gpus, place.concurrent),
        reused=sum(step.action == "reuse" for step in plan.steps),
        folder=storage.local / RUNS / name,
        page="" if storage.shared else storage.where(f"{RUNS}/{name}/{PAGE}"),
        resources=resources,
        read_durations=read_durations,
    )
    view = RunView(console, logs, [step.node for step in plan.builds], settings)
    startup.end()
    for wait in waits:
        view.warn(wait)
    with (
        uploading(storage, f"{RUNS}/{name}", f"{LOGS}/{name}"),
        tracked(recipe.tracking, graph, storage, logs, view.warn) as track,
        view.live(),
    ):
        names = names_of_models(graph, recipe.name)
        write_names(names, {step.node.key: step.record for step in plan.steps}, storage)

        def on_commit(node: Node, record: Record) -> None:
            track(node, record)
            write_names(names, {node.key: record}, storage)

        context = RunContext(
            storage,
            recipe.name,
            place,
            resources,
            view,
            recipe.limits.store_bytes,
            on_commit=on_commit,
            machines_may_join=bool(waits),
            check_new_machines=lambda: check_visible(plan, storage, place),
            deadline=None if recipe.limits.hours is None else (since or began) + 3600 * recipe.limits.hours,
        )
        outcome = run(plan, context)
        record_names(graph, outcome, storage, recipe.name)
        write_names(names, outcome.records, storage)
        with suppress(OSError):  # the caller reads the report again, and prints this error
            view.rows = report(graph, storage)
    return outcome


def open_place(where: PlaceChoice, logs: Path, pending: float) -> Place:
    """This process, a running Ray, or a Ray of its own on this machine. ``pending``: seconds that a stage waits for
    nodes. Raises RequestError."""
    if where.inline:
        return InlineGpu() if where.gpu else Inline()
    address = where.address
    try:
        with packages_for_workers(address) as packages:
            return Session.open(address, logs / "ray.log", packages, pending)
    except ConnectionError as error:
        remedy = "" if address else "; try again, or run with --inline"
        raise RequestError(f"{error}{remedy}") from error
