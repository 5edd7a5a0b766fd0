"""Which nodes fit beside those that run, and which of these give up workers for a more urgent one.

A stage that works item by item (``On.map``) gives up workers between two items, so a stage that runs for an hour does
not keep a short and urgent one waiting. It gets them back when nothing more urgent needs them. A training keeps what it
has until it ends. Trainings that share workers take the workers that they need together: a further one fits where a
worker of theirs has a free slot.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from cluster.amount import Demand
from cluster.resources import Capacity, Resources
from cluster.share import WorkerShare
from pipeline.artifacts.record import Record
from pipeline.execution.scheduler import StepResources
from pipeline.plan.planner import Step
from pipeline.plan.urgency import Urgency


@dataclass(eq=False)
class RunningStage:
    """A node that runs: its resources in full, and the share of them that it may use now. ``shown`` is the number of
    workers that was last reported to the view, which takes a stage to start with all."""

    step: Step
    wanted: Resources
    share: WorkerShare
    urgency: Urgency
    shown: int = field(init=False)

    def __post_init__(self) -> None:
        self.shown = self.share.workers

    def demand(self, workers: int) -> Demand:
        return self.wanted.demand_of(workers)


class Room:
    """The running stages, and what they take of a place. ``begin`` starts each look for nodes that fit."""

    def __init__(self, concurrent: bool) -> None:
        """``concurrent``: whether stages may run side by side."""
        self.running: dict[Future[Record], RunningStage] = {}
        self._concurrent = concurrent
        self._capacity = Capacity.fixed()
        self._reserved: list[Demand] = []
        self._awaiting: set[RunningStage] = set()

    def begin(self, capacity: Capacity) -> None:
        """Forget the reservations of the look before. ``capacity``: what the place has now."""
        self._capacity = capacity
        self._reserved = []
        self._awaiting = set()

    def fits(self, urgency: Urgency, shape: StepResources, may_make_room: Callable[[], bool] = lambda: True) -> bool:
        """Whether a node may start now. If not, less urgent stages are made to give up workers, if that will make room;
        it is kept free for this node. ``may_make_room`` is called before any stage has to give up more than before; if
        it returns False, none has to."""
        if not self.running:
            return True
        if not self._concurrent:
            return False
        self.enlarge(urgency)
        return self._obtain(urgency, shape.least.demand, may_make_room)

    def workers_that_fit(self, wanted: Resources) -> int:
        """The number of workers with which a node that fits may start: all if there is room for all, at least one."""
        for workers in range(wanted.workers, 1, -1):
            if self._is_free(wanted.demand_of(workers)):
                return workers
        return wanted.workers if not self.running else 1

    def enlarge(self, before: Urgency | None = None) -> None:
        """Let stages have workers back that they gave up: the most urgent first, and only those more urgent than
        ``before``. A stage for which one worker is reserved waits for it until the next look."""
        lacking = [
            one for one in self.running.values() if one.share.granted < one.share.workers and one not in self._awaiting
        ]
        for one in sorted(lacking, key=lambda one: one.urgency):
            if before is not None and one.urgency > before:
                break
            reserved = len(self._reserved)
            while one.share.granted < one.share.workers and self._obtain(one.urgency, one.demand(1)):
                one.share.grant(one.share.granted + 1)
            if len(self._reserved) > reserved:
                self._awaiting.add(one)

    def lacking(self) -> Iterator[Demand]:
        """The workers that running stages would use if there were room."""
        for one in self.running.values():
            if one.share.granted < one.share.workers:
                yield one.demand(one.share.workers - one.share.granted)

    def _obtain(self, urgency: Urgency, demand: Demand, may_make_room: Callable[[], bool] = lambda: True) -> bool:
        """Whether there is room for the demand now. If not, make room, and reserve it, where that is possible."""
        if not any(one.share.taken for one in self.running.values()) or self._is_free(demand):
            return True
        if self._make_room(urgency, demand, may_make_room):
            self._reserved.append(demand)
        return False

    def _is_free(self, demand: Demand) -> bool:
        """Whether the demand fits beside what is taken, and beside what is reserved once stages have given up workers
        as they are to."""
        taken = [one.demand(one.share.taken) for one in self.running.values()]
        if not self._capacity.packs([*taken, demand]):
            return False
        if not self._reserved:
            return True
        granted = [one.demand(one.share.granted) for one in self.running.values()]
        return self._capacity.packs([*granted, *self._reserved, demand])

    def _make_room(self, urgency: Urgency, demand: Demand, may_make_room: Callable[[], bool]) -> bool:
        """Grant fewer workers to stages of less urgent groups, the least urgent first, until the demand will fit.
        Returns False, and changes nothing, if it would not fit even so, or if ``may_make_room`` is called and returns
        False."""
        giving = [one for one in self.running.values() if one.share.adjustable and one.urgency.group > urgency.group]
        if not giving:
            return False
        granted = {one: one.share.granted for one in self.running.values()}
        giving.sort(key=lambda one: one.urgency)
        while not self._capacity.packs([*(one.demand(n) for one, n in granted.items()), *self._reserved, demand]):
            while giving and not granted[giving[-1]]:
                giving.pop()
            if not giving:
                return False
            granted[giving[-1]] -= 1
        changed = [one for one, workers in granted.items() if workers != one.share.granted]
        if changed and not may_make_room():
            return False
        for one in changed:
            one.share.grant(granted[one])
        return True
