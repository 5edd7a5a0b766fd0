"""Which nodes of a plan may start: an index of who waits for whom, and a queue for each shape of resources.

Nothing is looked at twice for nothing: a node is touched when an input of it comes, when it is offered, and when it is
given up. Offers go stage by stage rather than task by task: workers of one kind are started once and used by all.
"""

import heapq
from collections.abc import Callable, Container, Iterable, Iterator

from cluster.amount import Demand
from cluster.resources import Resources
from pipeline.graph.nodes import Node
from pipeline.plan.planner import Step
from pipeline.recipe import STAGES


class Scheduler:
    """The steps that wait. Falsy when there are none left."""

    def __init__(self, steps: Iterable[Step], there: Container[str], resources: Callable[[Node], Resources]) -> None:
        """``there``: keys of the artifacts that are there. ``resources``: what a node is to have."""
        self._resources = resources
        self._steps: dict[str, Step] = {}
        self._ranks: dict[str, tuple[int, int]] = {}
        self._lacks: dict[str, int] = {}
        self._needed_by: dict[str, list[str]] = {}
        self._queues: dict[Resources, list[tuple[tuple[int, int], str]]] = {}
        self._aside: list[str] = []
        for number, step in enumerate(steps):
            key = step.node.key
            self._steps[key] = step
            self._ranks[key] = (STAGES.index(step.node.role), number)
            lacking = {source.key for source in step.node.sources if source.key not in there}
            self._lacks[key] = len(lacking)
            for source in lacking:
                self._needed_by.setdefault(source, []).append(key)
            if not lacking:
                self._queue(key)

    def __len__(self) -> int:
        return len(self._steps)

    def offers(self, fits: Callable[[Resources], bool]) -> Iterator[tuple[Step, Resources]]:
        """Each step whose inputs are there and which fits; it is taken out. ``fits`` is asked anew for each offer, and
        not again for a shape that did not fit. Steps that are put ``aside`` meanwhile are offered the next time."""
        closed: set[Resources] = set()
        while fronts := [(queue[0], shape) for shape, queue in self._queues.items() if queue and shape not in closed]:
            (_, key), shape = min(fronts, key=lambda front: front[0])
            if key not in self._steps:
                heapq.heappop(self._queues[shape])
            elif fits(shape):
                heapq.heappop(self._queues[shape])
                yield self._steps.pop(key), shape
            else:
                closed.add(shape)
        for key in self._aside:
            self._queue(key)
        self._aside = []

    def aside(self, step: Step) -> None:
        """It cannot start now, though it fits: somebody else is at it."""
        self._steps[step.node.key] = step
        self._aside.append(step.node.key)

    def again(self, step: Step) -> None:
        """It was started, and has to be once more."""
        self._steps[step.node.key] = step
        self._queue(step.node.key)

    def came(self, key: str) -> None:
        """An artifact is there."""
        for waiting in self._needed_by.pop(key, ()):
            self._lacks[waiting] -= 1
            if not self._lacks[waiting] and waiting in self._steps:
                self._queue(waiting)

    def given_up(self, key: str) -> list[Step]:
        """The steps that wait for an artifact which will not come, and for them in turn. They are taken out."""
        found, lost = [], [key]
        while lost:
            for waiting in self._needed_by.pop(lost.pop(), ()):
                if waiting in self._steps:
                    found.append(self._steps.pop(waiting))
                    lost.append(waiting)
        return sorted(found, key=lambda step: self._ranks[step.node.key])

    def demands(self, most: int) -> list[Demand]:
        """What the steps whose inputs are there would take, were there room: ``most`` steps of each shape."""
        return [
            Demand(shape.each, shape.workers * min(len(queue), most)) for shape, queue in self._queues.items() if queue
        ]

    def _queue(self, key: str) -> None:
        shape = self._resources(self._steps[key].node)
        heapq.heappush(self._queues.setdefault(shape, []), (self._ranks[key], key))
