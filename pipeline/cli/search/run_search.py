"""``stillhouse search``: propose trials, train those that are missing, print all of them and the best."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from rich.console import Console

from cluster.resources import Place
from pipeline.artifacts.failure import forget_failure
from pipeline.artifacts.ownership import note_use
from pipeline.cli.last_sets import warn_of_same_name
from pipeline.cli.request import (
    PlaceChoice,
    Request,
    ResolvedRequest,
    make_plan,
    resolve,
    run_name,
    storage_errors,
    terminal,
)
from pipeline.cli.run import check_place
from pipeline.cli.search.output import Findings, as_json, print_findings
from pipeline.errors import RequestError
from pipeline.execution.runner import Failure, note_refused
from pipeline.execution.time_limit import TimeLimitReached
from pipeline.graph.nodes import Graph
from pipeline.monitor.forecast import forecast, planned_run, total_text
from pipeline.monitor.startup import Startup
from pipeline.plan.measurements import Measurements
from pipeline.recipe import SearchSettings
from pipeline.search.samplers import propose
from pipeline.search.tpe import check_installed
from pipeline.search.trial_nodes import TrialNodes, check_values
from pipeline.search.trial_recipe import read_searched
from pipeline.search.trials import (
    Trial,
    TrialResult,
    goodness,
    known_trials,
    next_number,
    note_trials,
    numbered_trials,
    ranked,
    result_of,
)
from pipeline.search.values import TrialBefore, Values
from pipeline.storage import Storage

FEW = 8
"""Trials whose results are read one by one; those of more are read from a list of the whole storage."""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The options of the command: ``form`` is table or json; ``retry`` runs failed trials again."""

    form: str
    dry_run: bool
    retry: bool
    where: PlaceChoice


def search_recipe(request: Request, options: SearchOptions) -> int:
    """Run the trials that are missing and print all of them. Returns the exit code: 1 if some trial has failed or could
    not be run, or if ``limits.hours`` are over. Raises RequestError."""
    check_place(options.where)
    # JSON stands alone on the standard output.
    console = Console(stderr=True, highlight=False) if options.form == "json" else terminal()
    with Startup(console) as startup:
        startup.step("reading the recipe, and the files and models that it names")
        resolved = resolve(request)
        nodes = trial_nodes(request, resolved)
        if nodes.searched.search.by == "tpe":
            check_installed()
        check_values(nodes)
        warn_of_same_name(resolved.storage, resolved.recipe)
        found = SearchInProgress(resolved, nodes, options, console, startup)
        with storage_errors(resolved.storage):
            found.read_known()
        over = "" if options.dry_run else found.run()
    findings = found.findings()
    if options.form == "json":
        print(as_json(findings))
    else:
        print_findings(findings, console)
    for failure in found.failures:
        print(f"stillhouse: {failure.node.name}: {failure.message}", file=sys.stderr)
    if over:
        print(f"stillhouse: {over}", file=sys.stderr)
        return 1
    incomplete = any(result.status != "done" for result in findings.results) or bool(found.failures)
    return 1 if incomplete and not options.dry_run else 0


def trial_nodes(request: Request, resolved: ResolvedRequest, reads_data: bool = True) -> TrialNodes:
    """What makes the trainings of a recipe's search. Raises RequestError for a recipe without one."""
    search = resolved.recipe.search
    if search is None:
        raise RequestError(
            f"{request.recipe}: search: missing, and needed: for example search: {{vary: {{train.learning_rate: "
            "[1.0e-5, 2.0e-5, 5.0e-5]}}"
        )
    searched = read_searched(request.recipe, request.sets, request.storage, search)
    return TrialNodes.of(searched, resolved.graph, resolved.digests, resolved.pins, reads_data)


@dataclass
class SearchInProgress:
    """A search and its trials so far. ``planned`` are trials that are not written down yet: of a dry run alone.
    ``refused`` are lines about combinations of values that the recipe does not take, which a search by draws leaves
    out; ``failures`` those of nodes that trials need. ``outlook``: what a dry run found to be missing."""

    resolved: ResolvedRequest
    nodes: TrialNodes
    options: SearchOptions
    console: Console
    startup: Startup
    trials: list[Trial] = field(default_factory=list)
    planned: list[Trial] = field(default_factory=list)
    refused: dict[str, None] = field(default_factory=dict)
    warnings: dict[str, None] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    results: dict[int, TrialResult] = field(default_factory=dict)
    trained: int = 0
    exhausted: bool = False
    outlook: str = ""

    @property
    def search(self) -> SearchSettings:
        return self.nodes.searched.search

    @property
    def storage(self) -> Storage:
        return self.resolved.storage

    def read_known(self) -> None:
        """Read the trials of earlier searches, and what became of them. For a dry run, add those that a search would
        begin with."""
        self.trials = known_trials(self.nodes, self.resolved.recipe.name, self.storage)
        self._read_results(self.trials)
        if self.options.retry and not self.options.dry_run:
            failed = [trial for trial in self.trials if self.results[trial.number].status == "failed"]
            for trial in failed:
                forget_failure(self.storage, trial.node.key)
            self._read_results(failed)
        # Those that are finished count first, then those that were proposed but not trained, oldest first.
        known = sorted(self.trials, key=lambda trial: self.results[trial.number].status == "open")
        ended = [trial for trial in known if self.results[trial.number].status != "open"]
        self.trials = known[: max(self.search.wanted, len(ended))]
        if self.options.dry_run:
            self.planned = self._proposed()
            self.outlook = self._outlook([*self._open(), *self.planned])

    def _outlook(self, trials: Sequence[Trial]) -> str:
        """What a search would build first beside these trials, and how long both take; '' where nothing is missing."""
        plan = make_plan(replace(self.resolved, graph=Graph.of([trial.node for trial in trials])), None)
        if not plan.builds:
            return ""
        keys = {trial.node.key for trial in trials}
        others = [step.node.name for step in plan.builds if step.node.key not in keys]
        run = planned_run(plan, self.resolved.recipe, self.options.where.inline)
        with storage_errors(self.storage):
            time_ = total_text(plan, forecast(run, self.resolved.recipe, Measurements(self.storage)))
        after = f", after {', '.join(others)}" if others else ""
        return f"{len(plan.builds) - len(others)} to train{after}: {time_}"

    def run(self) -> str:
        """Propose and train trials until there are as many as the search is to have. Returns a line on what is left
        where ``limits.hours``, counted over all rounds of the search, are over before that; else ''."""
        try:
            self._run_rounds(time.time())
        except TimeLimitReached:
            self._read_results(self.trials)
            done = sum(result.status == "done" for result in self.results.values())
            if not self._open() and len(self.trials) >= self.search.wanted:
                return ""
            return (
                f"limits.hours: {self.resolved.recipe.limits.hours:g}, and that time is over: {done} of "
                f"{self.search.wanted} trials are done; finished work is kept, and the same command goes on from there"
            )
        return ""

    def _run_rounds(self, began: float) -> None:
        """Train round after round of trials, of a search that ``began`` then (seconds since 1970)."""
        with ExitStack() as stack:
            place: Place | None = None
            name = run_name(began)
            rounds = 0
            while batch := self._next_batch():
                rounds += 1
                place = self._train(batch, place, stack, name if rounds == 1 else f"{name}-{rounds}", began)
                self._read_results(batch)
                if self._open():  # what they need could not be built
                    return

    # --- proposals ---

    def _open(self) -> list[Trial]:
        return [trial for trial in self.trials if self.results[trial.number].status == "open"]

    def _next_batch(self) -> list[Trial]:
        """The trials to train next: those that were proposed before, and new ones, which are written down first."""
        batch, new = self._open(), self._proposed()
        if new:
            with storage_errors(self.storage):
                self.storage.check()
                note_trials(self.nodes, self.resolved.recipe.name, self.storage, new)
            self.trials += new
            self._read_results(new)
        return [*batch, *new]

    def _proposed(self) -> list[Trial]:
        """New trials: all that are missing; with ``tpe`` as many as are trained at a time, once all before have
        ended."""
        count = self.search.wanted - len(self.trials)
        if self.search.by == "tpe":
            count = 0 if self._open() else min(count, self.search.parallel)
        if count <= 0:
            return []
        proposals = propose(self.search, self._before(), count, self._is_accepted)
        self.exhausted = len(proposals) < count
        with storage_errors(self.storage):
            first = next_number(self.nodes, self.resolved.recipe.name, self.storage)
        return numbered_trials(self.nodes, proposals, first)

    def _before(self) -> list[TrialBefore]:
        """The trials so far by number. How good each was is its place among them, so that the loss decides between
        equal scores, of which a small slice has many."""
        order = ranked([self.results[trial.number] for trial in self.trials], self.select_by)
        good = {
            result.trial.number: -float(place)
            for place, result in enumerate(order)
            if goodness(result, self.select_by) is not None
        }
        return [
            TrialBefore(trial.values, good.get(trial.number))
            for trial in sorted(self.trials, key=lambda trial: trial.number)
        ]

    def _is_accepted(self, values: Values) -> bool:
        """Whether the recipe takes these values; raises RequestError where a grid has them and it does not."""
        try:
            self.nodes.node(values)
        except RequestError as error:
            if self.search.by == "grid":
                raise
            self.refused[str(error)] = None
            return False
        self.warnings.update(dict.fromkeys(self.nodes.warnings(values)))
        return True

    @property
    def select_by(self) -> str:
        """The rule by which trials are compared: that by which the method's epochs are selected."""
        return self.nodes.searched.use(self.resolved.recipe).train.select_by

    # --- trainings ---

    def _train(
        self, batch: Sequence[Trial], place: Place | None, stack: ExitStack, name: str, began: float
    ) -> Place | None:
        """Train these trials as the run ``name``, on ``place`` if it is open already, in a search that ``began`` then.
        Returns the place."""
        if place is None:  # what was left beside finished trials by a search that was killed is removed, too
            there = [trial for trial in self.trials if self.results[trial.number].status != "failed"]
            graph = replace(Graph.of([trial.node for trial in there]), warnings=self.resolved.graph.warnings)
        else:
            graph = Graph.of([trial.node for trial in batch])
        planned = replace(self.resolved, graph=graph)
        plan = make_plan(planned, None)
        with storage_errors(self.storage):
            note_use(self.storage, self.resolved.recipe.name, graph)
        if not plan.builds:
            self.failures += note_refused(plan, self.storage).values()
            return place
        self.resolved.digests.save()
        self.resolved.pins.save()
        from pipeline.cli.run_plan import build_on, check_before_work, opened_place

        recipe, startup = self.resolved.recipe, self.startup
        where = self.options.where
        if place is None:
            check_before_work(recipe, plan)
            place = stack.enter_context(opened_place(recipe, self.storage, name, where, startup))
        keys = {trial.node.key for trial in batch}
        self.trained += len(keys & {step.node.key for step in plan.builds})
        outcome = build_on(place, recipe, self.storage, graph, plan, name, where, self.console, startup, began)
        self.failures += [
            failure for key, failure in outcome.failures.items() if key not in keys and not failure.blocked_by
        ]
        return place

    def _read_results(self, trials: Sequence[Trial]) -> None:
        with storage_errors(self.storage):
            there = self.storage.snapshot() if len(trials) > FEW else self.storage
            self.results |= {trial.number: result_of(trial, there) for trial in trials}

    # --- what it came to ---

    def findings(self) -> Findings:
        """All trials, the best first, and what is to be said about the search."""
        results = [self.results[trial.number] for trial in self.trials]
        results += [TrialResult(trial, "open") for trial in self.planned]
        task = self.nodes.searched.task(self.resolved.recipe)
        metric = self.nodes.searched.use(self.resolved.recipe).train.select_metric or task.task.primary
        return Findings(
            self.resolved.recipe.name,
            self.nodes.searched,
            ranked(results, self.select_by),
            metric,
            self.select_by,
            self.trained,
            tuple(self.warnings),
            tuple(self.refused),
            self.exhausted,
            self.options.dry_run,
            self.outlook,
        )
