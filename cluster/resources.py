"""What a stage may ask of the place it runs in, and nothing about which place that is.

``Resources`` is a value. ``On`` is what a stage gets: it maps work over items, trains in
data-parallel workers, and says how far it is. ``Worker`` is what the code inside a worker gets.
No implementation here may change a result: only where and how fast it comes about.

This module imports neither Ray nor torch, so stages may import it anywhere.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

Config = TypeVar("Config")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Resources:
    """What one stage gets: ``workers`` processes, each with so many CPUs, GPUs and bytes.

    ``cpus_per_worker`` is also the number of threads of a worker, which on a CPU decides the bits
    of a sum: a resumed run is bit-identical for equal workers and equal CPUs per worker.
    """

    workers: int = 1
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0
    memory_per_worker: int | None = None

    @property
    def cpus(self) -> int:
        return self.workers * self.cpus_per_worker

    @property
    def gpus(self) -> float:
        return self.workers * self.gpus_per_worker


class Worker(Protocol):
    """The place of one worker process, as the code inside it sees it."""

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
        """So much more of what ``On.expect`` announced is done."""
        ...

    def note(self, text: str) -> None:
        """What this stage is at, in a few words. It is shown live and kept in the stage's log."""
        ...


OpenWorker = Callable[[Config, Worker], Callable[[Item], Result]]
Loop = Callable[[Config, Worker], Result]


class On(Protocol):
    """Places to run, handed to a stage."""

    @property
    def resources(self) -> Resources: ...

    def map(
        self, open_worker: Callable[[Config, Worker], Callable[[Item], Result]], config: Config, items: Sequence[Item]
    ) -> Iterator[tuple[int, Result]]:
        """Do every item on one of ``resources.workers`` workers; yield (index, result) as each ends.

        ``open_worker(config, worker)`` runs once in a worker (a model is loaded there) and returns the
        function that does one item. Both it and ``config`` must pickle, by reference where they can.
        An exception in an item is raised here. A worker that dies is replaced and its item done again,
        at most three times.
        """
        ...

    def train(self, loop: Callable[[Config, Worker], Result], config: Config) -> Result:
        """Run ``loop(config, worker)`` in all workers at once, a torch process group among them when
        there is more than one; return what rank 0 returned. An exception is raised here. When a process
        dies the whole group starts again and calls ``loop`` again, which goes on from its checkpoint."""
        ...

    def expect(self, total: float, unit: str) -> None:
        """Announce the stage's size, for the live view: ``total`` of ``unit`` (rows, tokens, steps)."""
        ...

    def log(self, line: str) -> None:
        """A line for the stage's log."""
        ...


class Mirror(Protocol):
    """Keeps a stage's files alike on the machines that work on it, where they share no file system. It pickles."""

    @property
    def here(self) -> str:
        """Which copy of the files this process sees: the same for all processes of a machine."""
        ...

    def pull(self) -> None:
        """Bring here what the stage reads, and what other machines have written."""
        ...

    def push(self) -> None:
        """Let other machines have what was written here."""
        ...

    def close(self) -> None:
        """This process needs the files no longer."""
        ...


class Listener(Protocol):
    """Who hears of a stage's progress. Called from any thread of the driver; must return at once."""

    def expect(self, total: float, unit: str) -> None: ...
    def advance(self, amount: float) -> None: ...
    def note(self, text: str) -> None: ...
    def log(self, line: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a place has in all, in use or not. ``most_*`` is the largest single node's share."""

    cpus: float
    gpus: float
    nodes: int
    most_cpus: float
    most_gpus: float


class Place(Protocol):
    """Somewhere stages run: a Ray session, or this process."""

    @property
    def concurrent(self) -> bool:
        """Whether stages may run side by side, each in a thread of the driver."""
        ...

    @property
    def dashboard(self) -> str:
        """The URL of a page that shows what runs here; '' where there is none."""
        ...

    def capacity(self) -> Capacity: ...

    def on(self, resources: Resources, listener: Listener, mirror: Mirror | None = None) -> On:
        """Places for one stage, which sees its files through ``mirror``, or everywhere by itself. The runner never asks
        for more at once than ``capacity`` holds."""
        ...

    def unseen(self, paths: Sequence[str]) -> list[tuple[str, str]]:
        """(node, path) for each path that a node does not see. Empty where there is one node."""
        ...

    def close(self) -> None:
        """Stop all that runs here and free it. Threads waiting in ``On`` get an exception. Idempotent."""
        ...


class Closed(RuntimeError):
    """The place was closed while, or before, something was asked of it."""


class WorkerDied(RuntimeError):
    """A worker process ended without a word more often than it is started again."""
