"""Run a plan: build independent nodes at once as far as resources allow; a failure blocks only what depends on it.

Keys, leases and records are the runner's business; a stage gets directories and ``on``. If another run is building a
node, this one waits and uses its artifact.
"""

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field

from cluster.resources import Capacity, Resources
from cluster.share import WorkerShare
from pipeline.artifacts.attempts import (
    Attempt,
    AttemptHeld,
    Fenced,
    Watch,
    attempts_folder,
    check,
    claim,
    held,
    release,
    remove_if_swept,
)
from pipeline.artifacts.failure import forget_failure, note_failure
from pipeline.artifacts.heartbeat import Heartbeat
from pipeline.artifacts.record import Record, find, find_for, sound_record, sweep, withdraw
from pipeline.errors import first_line
from pipeline.execution.build_node import RunContext, build
from pipeline.execution.room import Room, RunningStage
from pipeline.execution.scheduler import Scheduler, StepResources
from pipeline.execution.time_limit import TimeLimitReached, interrupted_after
from pipeline.graph.nodes import MODEL, Graph, Node
from pipeline.plan.gates import check_gates
from pipeline.plan.limits import check_store_limit, with_quantities
from pipeline.plan.planner import Plan, Step, last_key_path
from pipeline.plan.reuse import priors, reusable_records
from pipeline.storage import Storage
from pipeline.storage.port import WORK
from stages.specs.teacher import QUARANTINED, TeachSpec

POLL = 0.2
"""Seconds between two looks at running stages."""
LOOK_AHEAD = 64
"""Waiting nodes of each combination of resources that are reported to a cluster that can grow."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a node has no artifact. ``blocked_by`` names the failed node that it needs, '' if it failed itself."""

    node: Node
    message: str
    blocked_by: str = ""


@dataclass
class Outcome:
    """The result of a run: records of built and reused artifacts by key, failures by key."""

    records: dict[str, Record] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)


def run(plan: Plan, context: RunContext) -> Outcome:
    """Build what the plan says. After Ctrl-C, raises KeyboardInterrupt once every lease is released; so it does at the
    deadline of ``context``, with TimeLimitReached."""
    records = {step.node.key: step.record for step in plan.steps if step.record is not None}
    outcome = Outcome(records, note_refused(plan, context.storage))
    for refused in outcome.failures.values():
        context.view.warn(f"{refused.node.name}: {refused.message}")
    with suppress(OSError):  # gc removes what is left
        remove_leftovers(plan, context)
    with Heartbeat(context.clock, context.view.warn) as heartbeat:
        work = RunInProgress(plan, context, outcome, heartbeat)
        try:
            work.run()
        except BaseException:
            # Stages that are still running get an exception in their threads, which then release their leases.
            context.view.stopping()
            work.stop()
            raise
        finally:
            work.wait_for_stages()
    return outcome


def note_refused(plan: Plan, storage: Storage) -> dict[str, Failure]:
    """Key -> failure of each step that the plan refuses. They are noted in the storage for later reports."""
    steps = [step for step in plan.steps if step.node.key in plan.refused]
    failures = {step.node.key: Failure(step.node, step.why) for step in steps}
    with suppress(OSError):  # a report then says that they are missing, not that they failed
        for key, failure in failures.items():
            note_failure(storage, key, failure.message)
    return failures


def remove_leftovers(plan: Plan, context: RunContext) -> None:
    """Remove attempts at reused artifacts: left by runs that were killed after the commit and before the sweep."""
    left = context.storage.entries(WORK)
    for step in plan.steps:
        key = step.node.key
        if step.record is None or key not in left:
            continue
        if not isinstance(
            claim(context.storage, step.node.spec.stage, key, {}, context.clock, adopt=False), AttemptHeld
        ):
            context.storage.drop(attempts_folder(key))


def record_names(graph: Graph, outcome: Outcome, storage: Storage, recipe: str) -> None:
    """Record the key of each built or reused node under each of its names. By it, the next plan can say what changed,
    and ``show`` finds an artifact by name."""
    nodes = [node for node in (*graph.nodes, *graph.wanted) if node.key in outcome.records]
    names = {last_key_path(recipe, node): node.key for node in nodes}
    with suppress(OSError):  # no result depends on them
        known = storage.read_many(list(names))
        for name, key in names.items():
            if known.get(name) != key:
                storage.write(name, key)


class RunInProgress:
    """A plan while it runs."""

    def __init__(self, plan: Plan, context: RunContext, outcome: Outcome, heartbeat: Heartbeat) -> None:
        self.plan = plan
        self.context = context
        self.outcome = outcome
        self.heartbeat = heartbeat
        self.graph = Graph(tuple(step.node for step in plan.steps))
        self.to_withdraw = set(plan.forced) | set(plan.stale)
        self.scheduler = Scheduler(plan.builds, outcome.records, context.resources)
        self.room = Room(context.place.concurrent)
        self.watch: Watch = {}
        self.machines = 0
        self.pool = ThreadPoolExecutor(max_workers=256, thread_name_prefix="stage")

    def run(self) -> None:
        """Start nodes and collect finished ones until none is left. Raises TimeLimitReached at the deadline."""
        # Where stages run in this thread, one of them has to be interrupted.
        with interrupted_after(None if self.context.place.concurrent else self._seconds_left()):
            while self.scheduler or self.room.running:
                if self._seconds_left() == 0:
                    raise TimeLimitReached
                started = self._start_ready()
                self._collect_finished(0.0 if started else POLL)

    def _seconds_left(self) -> float | None:
        """The seconds until the deadline, 0 from then on; None where there is none."""
        deadline = self.context.deadline
        return None if deadline is None else max(0.0, deadline - self.context.clock())

    def stop(self) -> None:
        self.context.place.close()

    def wait_for_stages(self) -> None:
        self.pool.shutdown(wait=True)

    def _fail(self, step: Step, failure: Failure) -> None:
        """Record the failure, and that the nodes which need this one are not run."""
        self._add_failure(step, failure)
        name = step.node.name
        for other in self.scheduler.drop_dependants(step.node.key):
            self._add_failure(other, Failure(other.node, f"not run: {name} failed", name))

    def _add_failure(self, step: Step, failure: Failure) -> None:
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
        """Start every node whose inputs are built, whose resources are free, and which no other run is building.
        Returns whether any was started, or needed no start."""
        started = False
        for step in self.scheduler.postponed:
            if self._is_to_be_built(step):
                self.scheduler.retry(step)
        self.room.begin(self._capacity())
        for step, shape in self.scheduler.offers(self._fits):
            started = self._start(step, shape) or started
        self.room.enlarge()
        self._report_workers()
        self.context.place.want([*self.room.lacking(), *self.scheduler.demands(LOOK_AHEAD)])
        return started

    def _report_workers(self) -> None:
        """Report to the view which running stages have given up workers, or have got some back."""
        for one in self.room.running.values():
            if one.shown != one.share.taken:
                one.shown = one.share.taken
                self.context.view.workers_changed(one.step.node, one.wanted, one.shown)

    def _capacity(self) -> Capacity:
        """The resources of the place. If machines have joined, they are checked before the next stage starts."""
        capacity = self.context.place.capacity()
        before, self.machines = self.machines, len(capacity.nodes)
        if before and self.machines > before:
            self.context.check_new_machines()
        return capacity

    def _fits(self, step: Step, shape: StepResources) -> bool:
        return self.room.fits(self.scheduler.urgency(step), shape, lambda: self._is_to_be_built(step))

    def _is_to_be_built(self, step: Step) -> bool:
        """Whether no other run is building the node, so that room is to be made for it. Claims nothing. A step that
        another run is building is postponed; one whose artifact exists by now needs no room, and is done."""
        node, context = step.node, self.context
        try:
            holder = held(context.storage, node.key, self.watch, context.clock())
            if holder is not None:
                context.view.held(node, holder.owner)
                self.scheduler.postpone(step)
                return False
            if node.key not in self.to_withdraw and self._use_existing(step):
                self.scheduler.drop(step)
                return False
        except OSError:
            pass  # the start of the step will say so
        return True

    def _start(self, step: Step, shape: StepResources) -> bool:
        """Use the artifact if it exists by now, else claim its key and start. False if another run holds it."""
        node = step.node
        try:
            claimed = self._claim(step)
        except OSError as error:
            self.heartbeat.stop(node.key)
            self._fail(step, Failure(node, f"the storage cannot be written: {first_line(error)}"))
            return True
        if claimed is None:
            return True
        if isinstance(claimed, AttemptHeld):
            self.context.view.held(node, claimed.owner)
            self.scheduler.postpone(step)
            return False
        wanted = shape.full
        granted = self.room.workers_that_fit(wanted) if shape.least != wanted else wanted.workers
        share = WorkerShare(wanted.workers, granted)
        self._report_workers()
        self.context.view.started(node, wanted, claimed.name)
        if self.context.place.concurrent:
            future = self.pool.submit(self._build, step, claimed, wanted, share)
        else:
            future = _completed_future(lambda: self._build(step, claimed, wanted, share))
        self.room.running[future] = RunningStage(step, wanted, share, self.scheduler.urgency(step))
        return True

    def _claim(self, step: Step) -> Attempt | AttemptHeld | None:
        """A new attempt at the step's key; AttemptHeld if another run is building it; None if one has built it."""
        node, storage = step.node, self.context.storage
        if node.key in self.to_withdraw:
            self._withdraw(node.key)
        if self._use_existing(step):
            return None
        claimed = claim(storage, node.spec.stage, node.key, self.watch, self.context.clock, self.heartbeat.keep_alive)
        if isinstance(claimed, AttemptHeld):
            return claimed
        if self._use_existing(step):
            self.heartbeat.stop(node.key)
            storage.drop(attempts_folder(node.key))
            return None
        return claimed

    def _withdraw(self, key: str) -> None:
        """Withdraw the records of a node that is built anew and of what depends on it, once its inputs are built."""
        now = self.graph.dependants({key}) & self.to_withdraw
        self.to_withdraw -= now
        # Dependants first: a run that is killed between two withdrawals leaves none that is made of a withdrawn input.
        for node in reversed(self.graph.nodes):
            if node.key in now and (node.key in self.plan.forced or self._still_stale(node)):
                withdraw(self.context.storage, node.spec.stage, node.key)

    def _still_stale(self, node: Node) -> bool:
        """Whether the record is the one that was planned to be withdrawn, and not one that another run built since."""
        return sound_record(self.context.storage, node.spec.stage, node.key) == self.plan.stale[node.key]

    def _use_existing(self, step: Step) -> bool:
        record = find_for(self.context.storage, step.node)
        if record is None:
            return False
        self._add_record(step.node, record)
        self.context.view.taken(step.node)
        return True

    def _add_record(self, node: Node, record: Record) -> None:
        self.outcome.records[node.key] = record
        self.scheduler.add_artifact(node.key)

    def _collect_finished(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds for running stages, and record those that have ended."""
        if not self.room.running:
            time.sleep(timeout)
            return
        done, _ = wait(list(self.room.running), timeout=timeout, return_when=FIRST_COMPLETED)
        for future in done:
            step = self.room.running.pop(future).step
            error = future.exception()
            if error is None:
                self._add_record(step.node, future.result())
                self.context.view.finished(step.node, future.result())
                self._warn_of_quarantined(future.result())
                self.context.on_commit(step.node, future.result())
            elif isinstance(error, Fenced):
                self.scheduler.retry(step)
                self.context.view.lost(step.node)
            elif isinstance(error, Exception):
                log = self.context.view.write_traceback(step.node, error)
                self._fail(step, Failure(step.node, f"{first_line(error)} (log: {log})"))
            else:
                raise error

    def _warn_of_quarantined(self, record: Record) -> None:
        """Say how many rows a store that was built just now has set aside, and where they are listed."""
        if record.stage == TeachSpec.stage and record.facts.get("quarantined"):
            self.context.view.warn(
                f"{record.name}: {record.facts['quarantined']:,} rows are set aside, as the teacher's outputs for them "
                "are not finite, and students of this store are not trained on them: "
                f"{self.context.storage.where(f'{record.folder}/{QUARANTINED}')}"
            )

    def _build(self, step: Step, attempt: Attempt, wanted: Resources, share: WorkerShare) -> Record:
        """Build the node under its lease, which is released if the build fails."""
        node, context = step.node, self.context
        try:
            check_gates(node, self.outcome.records)
            if isinstance(node.spec, TeachSpec):
                records = dict(self.outcome.records)
                check_store_limit(with_quantities(self.plan.steps, records), context.store_limit)
            # A stage that was named with --stage is computed, not copied from an earlier artifact.
            forced = node.key in self.plan.forced
            before = find(context.storage, node.spec.stage, node.key)
            earlier = () if forced else reusable_records(context.storage, node.spec.stage)
            usable = priors(earlier, node, context.storage, self.outcome.records)
            record = build(node, attempt, wanted, share, context, self.outcome.records, usable)
        except BaseException as error:
            self.heartbeat.stop(node.key)
            if isinstance(error, Exception):
                _raise_if_fenced(attempt)
            with suppress(OSError):  # the lease will expire
                release(attempt)
            context.view.released(node)
            raise
        self.heartbeat.stop(node.key)
        with suppress(OSError):  # the artifact is committed; gc removes what is left beside it
            if before is None or before.attempt == record.attempt:
                sweep(context.storage, record)
            else:
                self._keep_files_of(before, record)
            forget_failure(context.storage, node.key)
        return record

    def _keep_files_of(self, before: Record, record: Record) -> None:
        """An artifact that was whole has been built again for the sake of further files. Other runs may be reading its
        files, which gc removes later. Where the model came out otherwise, say so: what was made of it is kept."""
        self.context.storage.drop(attempts_folder(record.key))
        models = [
            {path: digest for path, (_, digest) in one.files_below(MODEL).items() if path.endswith(".safetensors")}
            for one in (before, record)
        ]
        if models[0] != models[1]:
            self.context.view.warn(
                f"{record.name}: trained again with other weights than before (another machine or number of workers); "
                "what was made of the earlier weights is kept; --stage builds it again"
            )


def _raise_if_fenced(attempt: Attempt) -> None:
    """Raises ``Fenced`` if another attempt took over, which then is the cause of the error in this one."""
    try:
        check(attempt)
    except Fenced:
        with suppress(OSError):  # gc removes what is left
            remove_if_swept(attempt)
        raise


def _completed_future(call: Callable[[], Record]) -> "Future[Record]":
    """Run ``call`` now; return its result or exception as a future. KeyboardInterrupt is raised."""
    future: Future[Record] = Future()
    try:
        future.set_result(call())
    except Exception as error:
        future.set_exception(error)
    return future
