"""The interface between a stage and the place where it runs, which may be Ray or this process.

``Resources`` is a value. ``On`` is what a stage gets: it maps work over items, trains in data-parallel workers, and
reports progress. ``Worker`` is what the code inside a worker gets. An implementation decides where and how fast work
runs, and never changes a result.

This module imports neither Ray nor torch, so stages may import it anywhere.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from cluster.amount import Amount, Demand, packs, room
from cluster.share import WorkerShare

Config = TypeVar("Config")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources of one stage: ``workers`` processes, each with so many CPUs, GPUs and bytes of memory, and with
    amounts of custom resources that nodes declare (``custom_per_worker``, each name once, sorted).

    ``cpus_per_worker`` is also the number of threads of a worker, which on a CPU decides the bits
    of a sum: a resumed run is bit-identical for equal workers and equal CPUs per worker.

    ``trainings_per_worker``: how many stages with these resources may train at the same time in one worker process,
    each in a thread of its own. The process takes its CPUs, GPUs and memory once, for all of them. It is above 1 only
    where ``workers`` is 1.
    """

    workers: int = 1
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0
    memory_per_worker: int | None = None
    custom_per_worker: tuple[tuple[str, float], ...] = ()
    trainings_per_worker: int = 1

    @property
    def cpus(self) -> float:
        """The CPUs of all workers; of a worker that several trainings share, the part of one training."""
        return self.workers * self.cpus_per_worker / self.trainings_per_worker

    @property
    def gpus(self) -> float:
        """The GPUs of all workers; of a worker that several trainings share, the part of one training."""
        return self.workers * self.gpus_per_worker / self.trainings_per_worker

    @property
    def each(self) -> Amount:
        """The resources that one worker takes from its node."""
        memory = float(self.memory_per_worker or 0)
        return Amount(float(self.cpus_per_worker), self.gpus_per_worker, memory, self.custom_per_worker)

    @property
    def demand(self) -> Demand:
        return self.demand_of(self.workers)

    def demand_of(self, workers: int) -> Demand:
        """The demand of so many of the workers."""
        return Demand(self.each, workers, self.trainings_per_worker)


class Worker(Protocol):
    """One worker process, as the code that runs in it sees it. With ``Resources.trainings_per_worker`` above 1, other
    trainings run in other threads of the process."""

    @property
    def rank(self) -> int: ...
    @property
    def world_size(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def device(self) -> str:
        """``cpu`` or ``cuda:0``."""
        ...

    def advance(self, amount: float) -> None:
        """Report that so much more of the total of ``On.expect`` is done."""
        ...

    def restore(self, amount: float) -> None:
        """Report that so much of the total need not be computed: an earlier attempt did it, or it is copied from an
        earlier artifact. It counts as done, but not as work of this run, from whose rate the time left is estimated."""
        ...

    def note(self, text: str) -> None:
        """Describe what the stage is doing, in a few words, which are shown live and kept in the stage's log."""
        ...


class On(Protocol):
    """Runs a stage's work, in workers with the stage's resources."""

    @property
    def resources(self) -> Resources: ...

    def map(
        self, open_worker: Callable[[Config, Worker], Callable[[Item], Result]], config: Config, items: Sequence[Item]
    ) -> Iterator[tuple[int, Result]]:
        """Run every item on one of ``resources.workers`` workers; yield (index, result) as each ends.

        ``open_worker(config, worker)`` runs once in each worker, for instance to load a model, and returns the function
        that is called with each item. Both it and ``config`` must pickle, by reference where they can. An exception in
        an item is raised here. A worker that dies is replaced and its item run again, at most three times."""
        ...

    def train(self, loop: Callable[[Config, Worker], Result], config: Config) -> Result:
        """Run ``loop(config, worker)`` in all workers at once, a torch process group among them when
        there is more than one; return what rank 0 returned. An exception is raised here. When a process
        dies the whole group starts again and calls ``loop`` again, which goes on from its checkpoint."""
        ...

    def expect(self, total: float, unit: str) -> None:
        """Announce the stage's total amount of work, for the live view, in ``unit`` (rows, tokens, steps)."""
        ...

    def log(self, line: str) -> None:
        """Write a line to the stage's log."""
        ...


class Mirror(Protocol):
    """Copies a stage's files between the machines that work on it, where they share no file system. It can be
    pickled."""

    @property
    def here(self) -> str:
        """Names the copy of the files that this process sees, the same for all processes of a machine."""
        ...

    def pull(self) -> None:
        """Fetch what the stage reads, and what other machines have pushed."""
        ...

    def push(self) -> None:
        """Make what was written on this machine available to the others."""
        ...

    def close(self) -> None:
        """Release the files: this process needs them no longer."""
        ...


class Listener(Protocol):
    """Receives a stage's progress. Its methods are called from any thread of the driver and must return at once."""

    def expect(self, total: float, unit: str) -> None: ...
    def advance(self, amount: float) -> None: ...
    def restore(self, amount: float) -> None: ...
    def note(self, text: str) -> None: ...
    def log(self, line: str) -> None: ...


class SilentListener:
    """A listener that ignores all progress."""

    def expect(self, total: float, unit: str) -> None: ...
    def advance(self, amount: float) -> None: ...
    def restore(self, amount: float) -> None: ...
    def note(self, text: str) -> None: ...
    def log(self, line: str) -> None: ...


ACCELERATOR = "accelerator_type:"


@dataclass(frozen=True, slots=True)
class Growth:
    """How far a cluster may grow: (largest count, resources of one node) for each kind of node, present nodes included.
    ``nodes`` limits all kinds together."""

    kinds: tuple[tuple[int, Amount], ...]
    nodes: int | None = None

    def room(self, each: Amount) -> int:
        """How many workers of ``each`` a fully grown cluster holds."""
        # The model of a GPU is known only once its node has started.
        custom = tuple((name, amount) for name, amount in each.custom if not name.startswith(ACCELERATOR))
        each = replace(each, custom=custom)
        left, found = self.nodes, 0
        for count, node in sorted(self.kinds, key=lambda kind: room(kind[1], each), reverse=True):
            used = count if left is None else min(count, left)
            left = None if left is None else left - used
            found += used * room(node, each)
        return found

    def packs(self, demands: Sequence[Demand]) -> bool:
        """Whether all demands fit at once on a fully grown cluster."""
        workers = sum(demand.count for demand in demands)
        return packs([node for count, node in self.kinds for _ in range(min(count, workers))], demands)

    def __str__(self) -> str:
        return _listed(self.kinds)


@dataclass(frozen=True, slots=True)
class Capacity:
    """The resources of a place, in use or not, one entry for each node. ``growth`` is None where it is unknown how far
    it may grow; for a place that cannot grow, it holds exactly the present nodes."""

    nodes: tuple[Amount, ...]
    growth: Growth | None

    @staticmethod
    def fixed(*nodes: Amount) -> "Capacity":
        return Capacity(nodes, Growth(tuple((1, node) for node in nodes)))

    @property
    def cpus(self) -> float:
        """The CPUs of all present nodes together."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        return sum(node.gpus for node in self.nodes)

    @property
    def machines(self) -> int:
        """How many nodes there are, or may be where the growth is known."""
        return max(len(self.nodes), sum(count for count, _ in self.growth.kinds) if self.growth else 0)

    @property
    def kinds(self) -> tuple[Amount, ...]:
        """Each kind of node that is present or may be added."""
        return tuple(dict.fromkeys([*self.nodes, *(node for _, node in (self.growth.kinds if self.growth else ()))]))

    def room(self, each: Amount) -> int:
        """How many workers of ``each`` the present nodes hold when empty, each worker being on one node."""
        return sum(room(node, each) for node in self.nodes)

    def most(self, each: Amount) -> int:
        """How many workers of ``each`` it may ever hold, where the growth is known."""
        return max(self.room(each), self.growth.room(each) if self.growth else 0)

    def packs(self, demands: Sequence[Demand]) -> bool:
        """Whether all demands fit at once on the present nodes, or on the grown cluster where the growth is known."""
        return packs(self.nodes, demands) or (self.growth is not None and self.growth.packs(demands))

    def __str__(self) -> str:
        """``2 nodes of 4 CPUs, 1 GPU``."""
        return _listed([(count, node) for node, count in Counter(self.nodes).items()])


def _listed(kinds: Sequence[tuple[int, Amount]]) -> str:
    counts: Counter[str] = Counter()
    for count, node in kinds:
        counts[str(node)] += count
    return " + ".join(f"{count} node{'' if count == 1 else 's'} of {node}" for node, count in counts.items())


class Place(Protocol):
    """Where stages run: a Ray session, or this process."""

    @property
    def concurrent(self) -> bool:
        """Whether stages may run side by side, each in a thread of the driver."""
        ...

    @property
    def dashboard(self) -> str:
        """The URL of a page that shows what runs here; '' where there is none."""
        ...

    def capacity(self) -> Capacity: ...

    def on(
        self, resources: Resources, listener: Listener, mirror: Mirror | None = None, share: WorkerShare | None = None
    ) -> On:
        """An ``On`` for one stage. ``mirror`` copies its files between machines; None where all see the same files.
        ``share`` says how many of its workers the stage may use at the moment; None: always all. The runner never
        requests more at one time than ``capacity`` holds."""
        ...

    def prepare(self, resources: Resources, modules: Sequence[str]) -> None:
        """State that work with these resources, which imports these modules, will come soon: a place may start a
        process for it meanwhile. No result depends on it."""
        ...

    def unseen(self, paths: Sequence[str]) -> list[tuple[str, str]]:
        """(node, path) for each path that a node does not see; [] where there is only one node."""
        ...

    def want(self, demands: Sequence[Demand]) -> None:
        """State what more would run now if there were room, so that a place that can grow may do so. The next call
        replaces it."""
        ...

    def close(self) -> None:
        """Stop all work and free its resources. Threads that wait in ``On`` get ``Closed``. A second call does
        nothing."""
        ...


class Closed(RuntimeError):
    """The place was closed before or during the call."""


class WorkerDied(RuntimeError):
    """A worker process ended without an outcome more often than it is restarted."""
