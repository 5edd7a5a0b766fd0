"""Carry a plan out: independent nodes side by side within what the place holds, failures kept to what
depends on them.

The runner alone knows of keys, leases and records; a stage gets directories and ``on``. A node that
another run is building is waited for, and its artifact taken.
"""

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field

from cluster.resources import Capacity, Resources
from pipeline.artifacts.attempts import Attempt, AttemptHeld, Fenced, Watch, check, claim, forsake, release, work_of
from pipeline.artifacts.failure import forget_failure, note_failure
from pipeline.artifacts.heartbeat import Heartbeat
from pipeline.artifacts.record import Record, find_for, sweep, withdraw
from pipeline.errors import first_line
from pipeline.execution.build_node import RunContext, build
from pipeline.execution.scheduler import Scheduler
from pipeline.graph.nodes import Graph, Node
from pipeline.plan.limits import check_store_limit, sized
from pipeline.plan.planner import Plan, Step, last_key_path
from pipeline.plan.reuse import held, priors
from pipeline.storage import Storage
from pipeline.storage.port import WORK
from stages.specs.teacher import TeachSpec

POLL = 0.2
LOOK_AHEAD = 64
"""How many nodes of a shape a place that can grow hears of before there is room."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a node has no artifact. ``blocked_by`` names the failed node that it needs."""

    node: Node
    message: str
    blocked_by: str = ""


@dataclass
class Outcome:
    """What a run came to: records by key, failures by key."""

    records: dict[str, Record] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)


def run(plan: Plan, context: RunContext) -> Outcome:
    """Build what the plan says. Raises KeyboardInterrupt after letting go of every lease."""
    outcome = Outcome({step.node.key: step.record for step in plan.steps if step.record is not None})
    with suppress(OSError):  # what is left is for gc
        clear(plan, context)
    with Heartbeat(context.clock, context.view.warn) as heartbeat:
        work = RunInProgress(plan, context, outcome, heartbeat)
        try:
            work.run()
        except BaseException:
            # Ends the stages that are still running: their threads get an exception and let go of their leases.
            work.stop()
            raise
        finally:
            work.join()
    return outcome


def clear(plan: Plan, context: RunContext) -> None:
    """Free the work of runs that were killed between the record of what is reused here, and its sweep."""
    left = context.storage.entries(WORK)
    for step in plan.steps:
        key = step.node.key
        if step.record is None or key not in left:
            continue
        if not isinstance(
            claim(context.storage, step.node.spec.stage, key, {}, context.clock, adopt=False), AttemptHeld
        ):
            context.storage.drop(work_of(key))


def remember_names(graph: Graph, outcome: Outcome, storage: Storage, recipe: str) -> None:
    """Note which key stands under each node's name, so that the next plan can say what changed."""
    names = {last_key_path(recipe, node): node.key for node in graph.nodes if node.key in outcome.records}
    with suppress(OSError):  # they only help to say why
        known = storage.read_many(list(names))
        for name, key in names.items():
            if known.get(name) != key:
                storage.write(name, key)


class RunInProgress:
    """A plan while it is carried out."""

    def __init__(self, plan: Plan, context: RunContext, outcome: Outcome, heartbeat: Heartbeat) -> None:
        self.plan = plan
        self.context = context
        self.outcome = outcome
        self.heartbeat = heartbeat
        self.graph = Graph(tuple(step.node for step in plan.steps))
        self.to_withdraw = set(plan.forced | plan.stale)
        self.ready = Scheduler(plan.builds, outcome.records, context.resources)
        self.running: dict[Future[Record], tuple[Step, Resources]] = {}
        self.watch: Watch = {}
        self.machines = 0
        self.pool = ThreadPoolExecutor(max_workers=256, thread_name_prefix="stage")

    def run(self) -> None:
        while self.ready or self.running:
            started = self._start_ready()
            self._settle(0.0 if started else POLL)

    def stop(self) -> None:
        self.context.place.close()

    def join(self) -> None:
        self.pool.shutdown(wait=True)

    def _fail(self, step: Step, failure: Failure) -> None:
        """Note it, and give up the nodes that need this one."""
        self._failed(step, failure)
        name = step.node.name
        for other in self.ready.given_up(step.node.key):
            self._failed(other, Failure(other.node, f"not run: {name} failed", name))

    def _failed(self, step: Step, failure: Failure) -> None:
        self.outcome.failures[step.node.key] = failure
        self.context.view.failed(step.node, failure.message, bool(failure.blocked_by))
        if not failure.blocked_by:
            try:
                note_failure(self.context.storage, step.node.key, failure.message)
            except OSError as error:
                self.context.view.warn(
                    f"{self.context.storage}: cannot note that {step.node.name} failed ({first_line(error)})"
                )

    def _start_ready(self) -> bool:
        """Start every node whose inputs are there, which fits beside what runs, and which nobody else builds."""
        started = False
        capacity = self._capacity()
        for step, wanted in self.ready.offers(lambda wanted: self._fits(wanted, capacity)):
            started = self._start(step, wanted) or started
        self.context.place.want(self.ready.demands(LOOK_AHEAD))
        return started

    def _capacity(self) -> Capacity:
        """What there is. A machine that has joined is looked at before the next stage begins."""
        capacity = self.context.place.capacity()
        before, self.machines = self.machines, len(capacity.nodes)
        if before and self.machines > before:
            self.context.joined()
        return capacity

    def _fits(self, wanted: Resources, capacity: Capacity) -> bool:
        if not self.running:
            return True
        demands = [used.demand for _, used in self.running.values()]
        return self.context.place.concurrent and capacity.packs([*demands, wanted.demand])

    def _start(self, step: Step, wanted: Resources) -> bool:
        """Take the record if there is one by now, else claim and start. False if another run holds it."""
        node = step.node
        try:
            claimed = self._claim(step)
        except OSError as error:
            self.heartbeat.let_go(node.key)
            self._fail(step, Failure(node, f"the storage cannot be written: {first_line(error)}"))
            return True
        if claimed is None:
            return True
        if isinstance(claimed, AttemptHeld):
            self.context.view.held(node, claimed.owner)
            self.ready.aside(step)
            return False
        self.context.view.started(node, wanted, claimed.name)
        if self.context.place.concurrent:
            future = self.pool.submit(self._build, step, claimed, wanted)
        else:
            future = _done(lambda: self._build(step, claimed, wanted))
        self.running[future] = (step, wanted)
        return True

    def _claim(self, step: Step) -> Attempt | AttemptHeld | None:
        """None where there is nothing to do: another run has built it."""
        node, storage = step.node, self.context.storage
        if node.key in self.to_withdraw:
            self._withdraw(node.key)
        if self._take_if_there(step):
            return None
        claimed = claim(storage, node.spec.stage, node.key, self.watch, self.context.clock, self.heartbeat.hold)
        if isinstance(claimed, AttemptHeld):
            return claimed
        if self._take_if_there(step):
            self.heartbeat.let_go(node.key)
            storage.drop(work_of(node.key))
            return None
        # A record that still stands misses files or is of another spec, or it would have been taken: it must not win.
        withdraw(storage, node.spec.stage, node.key)
        return claimed

    def _withdraw(self, key: str) -> None:
        """Remove the record of a node that is built anew, and those of all that depends on it. Its inputs are there."""
        now = self.graph.dependants({key}) & self.to_withdraw
        self.to_withdraw -= now
        for node in self.graph.nodes:
            if node.key in now:
                withdraw(self.context.storage, node.spec.stage, node.key)

    def _take_if_there(self, step: Step) -> bool:
        record = find_for(self.context.storage, step.node)
        if record is None:
            return False
        self._have(step.node, record)
        self.context.view.taken(step.node)
        return True

    def _have(self, node: Node, record: Record) -> None:
        self.outcome.records[node.key] = record
        self.ready.came(node.key)

    def _settle(self, timeout: float) -> None:
        """Take in what has ended."""
        if not self.running:
            time.sleep(timeout)
            return
        done, _ = wait(list(self.running), timeout=timeout, return_when=FIRST_COMPLETED)
        for future in done:
            step, _ = self.running.pop(future)
            error = future.exception()
            if error is None:
                self._have(step.node, future.result())
                self.context.view.finished(step.node, future.result())
                self.context.told(step.node, future.result())
            elif isinstance(error, Fenced):
                self.ready.again(step)
                self.context.view.lost(step.node)
            elif isinstance(error, Exception):
                log = self.context.view.keep_traceback(step.node, error)
                self._fail(step, Failure(step.node, f"{first_line(error)} (log: {log})"))
            else:
                raise error

    def _build(self, step: Step, attempt: Attempt, wanted: Resources) -> Record:
        """Build the node under its lease."""
        node, context = step.node, self.context
        try:
            if isinstance(node.spec, TeachSpec):
                records = dict(self.outcome.records)
                check_store_limit(tuple(sized(other, records) for other in self.plan.steps), context.store_limit)
            # Who asks for a stage by name wants it computed.
            forced = node.key in self.plan.forced
            there = () if forced else held(context.storage, node.spec.stage)
            earlier = priors(there, node, context.storage, self.outcome.records)
            standing = build(node, attempt, wanted, context, self.outcome.records, earlier)
        except BaseException as error:
            self.heartbeat.let_go(node.key)
            if isinstance(error, Exception):
                _check(attempt)
            with suppress(OSError):  # the lease will expire
                release(attempt)
            raise
        self.heartbeat.let_go(node.key)
        with suppress(OSError):  # the artifact stands; what is left beside it is for gc
            sweep(context.storage, standing)
            forget_failure(context.storage, node.key)
        return standing


def _check(attempt: Attempt) -> None:
    """Another attempt that took over explains whatever went wrong in this one. Raises ``Fenced``."""
    try:
        check(attempt)
    except Fenced:
        with suppress(OSError):  # what is left is for gc
            forsake(attempt)
        raise


def _done(call: Callable[[], Record]) -> "Future[Record]":
    """What ``call`` gives, as a future, run here and now. KeyboardInterrupt passes through."""
    future: Future[Record] = Future()
    try:
        future.set_result(call())
    except Exception as error:
        future.set_exception(error)
    return future
