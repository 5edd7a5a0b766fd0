"""Which nodes of a plan may start: a count of missing inputs for each, and a queue for each combination of resources.

The cost per event does not grow with the plan: a node is touched only when one of its inputs is built, when it is
offered, and when it is dropped. The most urgent node is offered first (``pipeline/plan/urgency.py``).
"""

import heapq
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass

from cluster.amount import Demand
from cluster.resources import Resources
from pipeline.graph.nodes import Node
from pipeline.plan.planner import Step
from pipeline.plan.urgency import Urgency, least, urgencies


@dataclass(frozen=True, slots=True)
class StepResources:
    """The resources of nodes that are in one queue: those that they use in full, and those with which they may
    start."""

    full: Resources
    least: Resources


class Scheduler:
    """The steps that have not started. Falsy when there are none left."""

    def __init__(self, steps: Iterable[Step], existing: Container[str], resources: Callable[[Node], Resources]) -> None:
        """``existing``: keys of artifacts that are built. ``resources``: the resources of a node."""
        steps = list(steps)
        self._resources = resources
        self._steps: dict[str, Step] = {}
        self._urgencies = urgencies([step.node for step in steps])
        self._missing: dict[str, int] = {}
        self._waiting_for: dict[str, list[str]] = {}
        self._queues: dict[StepResources, list[tuple[Urgency, str]]] = {}
        self._postponed: dict[str, Step] = {}
        for step in steps:
            key = step.node.key
            self._steps[key] = step
            lacking = {other.key for other in step.node.waits_for if other.key not in existing}
            self._missing[key] = len(lacking)
            for source in lacking:
                self._waiting_for.setdefault(source, []).append(key)
            if not lacking:
                self._queue(key)

    def __len__(self) -> int:
        return len(self._steps)

    def urgency(self, step: Step) -> Urgency:
        """The rank of a step of the plan; the smallest is the most urgent."""
        return self._urgencies[step.node.key]

    def offers(self, fits: Callable[[Step, StepResources], bool]) -> Iterator[tuple[Step, StepResources]]:
        """Take out and yield each step whose inputs are built and whose resources fit.

        ``fits`` is called before each step, as those before it have taken resources, but not again for a shape
        (combination of resources) that did not fit. It may postpone or drop the step; then the next one of that shape
        is tried.
        """
        closed: set[StepResources] = set()
        while fronts := [(queue[0], shape) for shape, queue in self._queues.items() if queue and shape not in closed]:
            (_, key), shape = min(fronts, key=lambda front: front[0])
            if key not in self._steps or key in self._postponed:
                heapq.heappop(self._queues[shape])
            elif fits(self._steps[key], shape):
                heapq.heappop(self._queues[shape])
                yield self._steps.pop(key), shape
            elif key in self._steps and key not in self._postponed:
                closed.add(shape)

    def postpone(self, step: Step) -> None:
        """Put a step aside that cannot start now because another run is building it: it is not offered until
        ``retry``."""
        self._steps[step.node.key] = step
        self._postponed[step.node.key] = step

    @property
    def postponed(self) -> list[Step]:
        """The steps that are put aside."""
        return list(self._postponed.values())

    def retry(self, step: Step) -> None:
        """Offer a step again that was postponed, or that was started and must be started once more."""
        self._postponed.pop(step.node.key, None)
        self._steps[step.node.key] = step
        self._queue(step.node.key)

    def drop(self, step: Step) -> None:
        """Take a step out that need not start."""
        self._postponed.pop(step.node.key, None)
        self._steps.pop(step.node.key, None)

    def add_artifact(self, key: str) -> None:
        """An artifact is built: queue the steps for which it was the last missing input."""
        for waiting in self._waiting_for.pop(key, ()):
            self._missing[waiting] -= 1
            if not self._missing[waiting] and waiting in self._steps:
                self._queue(waiting)

    def drop_dependants(self, key: str) -> list[Step]:
        """Take out and return the steps that need an artifact which cannot be built, directly or not, in plan order."""
        found, lost = [], [key]
        while lost:
            for waiting in self._waiting_for.pop(lost.pop(), ()):
                if waiting in self._steps:
                    found.append(self._steps.pop(waiting))
                    lost.append(waiting)
        return sorted(found, key=lambda step: self._urgencies[step.node.key].number)

    def demands(self, most: int) -> list[Demand]:
        """The resources that queued steps would use if there were enough: of ``most`` steps of each shape at most."""
        return [
            shape.full.demand_of(shape.full.workers * min(len(queue), most))
            for shape, queue in self._queues.items()
            if queue
        ]

    def _queue(self, key: str) -> None:
        node = self._steps[key].node
        full = self._resources(node)
        shape = StepResources(full, least(node, full))
        heapq.heappush(self._queues.setdefault(shape, []), (self._urgencies[key], key))
