"""Stages run in this process, one after another: for debugging, and where Ray is not installed."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from cluster.amount import Amount, Demand
from cluster.mirroring import pushed
from cluster.resources import Capacity, Listener, Mirror, On, Resources
from cluster.share import WorkerShare

Config = TypeVar("Config")
Item = TypeVar("Item")
Result = TypeVar("Result")


class InlineWorker:
    """The one worker of this process: rank 0 of 1."""

    rank = 0
    world_size = 1

    def __init__(self, threads: int, listener: Listener, device: str = "cpu") -> None:
        self.threads = threads
        self.device = device
        self._listener = listener

    def advance(self, amount: float) -> None:
        self._listener.advance(amount)

    def restore(self, amount: float) -> None:
        self._listener.restore(amount)

    def note(self, text: str) -> None:
        self._listener.note(text)


class InlineOn:
    """``On`` without further processes. ``resources`` is what was requested; one worker of it runs."""

    def __init__(self, resources: Resources, listener: Listener, mirror: Mirror | None = None) -> None:
        self._resources = resources
        self._mirror = mirror
        self._listener = listener

    @property
    def resources(self) -> Resources:
        return self._resources

    def map(
        self,
        open_worker: Callable[[Config, InlineWorker], Callable[[Item], Result]],
        config: Config,
        items: Sequence[Item],
    ) -> Iterator[tuple[int, Result]]:
        """Do the items in order. ``open_worker`` runs once, or not at all where there are no items."""
        if not items:
            return
        do = open_worker(config, self._worker())
        for index, item in enumerate(items):
            result = do(item)
            if self._mirror is not None:
                self._mirror.push()
            yield index, result

    def train(self, loop: Callable[[Config, InlineWorker], Result], config: Config) -> Result:
        """Run ``loop`` in a world of one."""
        with pushed(self._mirror):  # the stage's inputs are on this machine already
            return loop(config, self._worker())

    def expect(self, total: float, unit: str) -> None:
        self._listener.expect(total, unit)

    def log(self, line: str) -> None:
        self._listener.log(line)

    def _worker(self) -> InlineWorker:
        return InlineWorker(self._resources.cpus_per_worker, self._listener)


def this_machine(gpus: float = 0.0) -> Capacity:
    """The CPUs and the memory of this machine, and so many GPUs, as those of a place."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Capacity.fixed(Amount(float(os.cpu_count() or 1), gpus, float(memory)))


class Inline:
    """This process as a ``Place``. It uses no GPU, whatever the machine has: a debugger needs the CPU."""

    concurrent = False
    dashboard = ""

    def capacity(self) -> Capacity:
        return this_machine()

    def on(
        self,
        resources: Resources,
        listener: Listener,
        mirror: Mirror | None = None,
        share: WorkerShare | None = None,  # noqa: ARG002
    ) -> On:
        """An ``On`` without further processes. Its one worker is never given up, as no other stage can run here."""
        return InlineOn(resources, listener, mirror)

    def prepare(self, resources: Resources, modules: Sequence[str]) -> None:
        """Does nothing: work runs in this process, one stage after another."""

    def unseen(self, _: Sequence[str]) -> list[tuple[str, str]]:
        """[]: there is only one node."""
        return []

    def want(self, demands: Sequence[Demand]) -> None:
        """Does nothing: this process cannot grow."""

    def close(self) -> None:
        """Does nothing: nothing runs between calls."""
