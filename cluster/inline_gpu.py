"""Stages run in this process on one GPU, side by side in threads: for one machine, where Ray is not needed."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from typing import TypeVar

from cluster.inline import Inline, InlineOn, InlineWorker, this_machine
from cluster.resources import Capacity, Closed, Listener, Mirror, On, Resources
from cluster.share import WorkerShare

Config = TypeVar("Config")
Item = TypeVar("Item")
Result = TypeVar("Result")


class InlineGpuWorker(InlineWorker):
    """A thread of this process: rank 0 of 1, on ``device``. Once ``closed`` is set, it ends with ``Closed`` at its next
    report of progress."""

    def __init__(self, threads: int, listener: Listener, device: str, closed: threading.Event) -> None:
        super().__init__(threads, listener, device)
        self._closed = closed

    def advance(self, amount: float) -> None:
        raise_if(self._closed)
        super().advance(amount)

    def restore(self, amount: float) -> None:
        raise_if(self._closed)
        super().restore(amount)

    def note(self, text: str) -> None:
        raise_if(self._closed)
        super().note(text)


class InlineGpuOn(InlineOn):
    """``On`` whose worker uses the GPU if its resources have one, or a part of one."""

    def __init__(
        self, resources: Resources, listener: Listener, mirror: Mirror | None, device: str, closed: threading.Event
    ) -> None:
        super().__init__(resources, listener, mirror)
        self._device = device if resources.gpus_per_worker else "cpu"
        self._closed = closed

    def map(
        self,
        open_worker: Callable[[Config, InlineWorker], Callable[[Item], Result]],
        config: Config,
        items: Sequence[Item],
    ) -> Iterator[tuple[int, Result]]:
        """Do the items in order, as long as the place is open."""
        for done in super().map(open_worker, config, items):
            yield done
            raise_if(self._closed)

    def _worker(self) -> InlineWorker:
        raise_if(self._closed)
        return InlineGpuWorker(self._resources.cpus_per_worker, self._listener, self._device, self._closed)


def raise_if(closed: threading.Event) -> None:
    """Raise ``Closed`` if the place of a stage is closed."""
    if closed.is_set():
        raise Closed("the run is stopped")


class InlineGpu(Inline):
    """This process and its first GPU as a ``Place``. As many stages run at once as the machine's CPUs and the parts of
    the GPU that they take allow, each in a thread. They share the process's random generators and the GPU one step at a
    time, as trainings that share a worker do, so that the results are those of stages that run alone."""

    concurrent = True

    def __init__(self, device: str = "cuda:0") -> None:
        """``device``: the one that torch uses by default, which is the first GPU."""
        self.device = device
        self._closed = threading.Event()

    def capacity(self) -> Capacity:
        return this_machine(gpus=1.0)

    def on(
        self,
        resources: Resources,
        listener: Listener,
        mirror: Mirror | None = None,
        share: WorkerShare | None = None,  # noqa: ARG002
    ) -> On:
        """An ``On`` whose one worker is the thread that calls it. It is given up only when the place is closed."""
        return InlineGpuOn(resources, listener, mirror, self.device, self._closed)

    def prepare(self, resources: Resources, modules: Sequence[str]) -> None:  # noqa: ARG002
        """Import the modules here, before stages that run side by side would import them at once. What cannot be
        imported is left to the stage that needs it, which then says so."""
        for name in modules:
            with suppress(ImportError):
                import_module(name)

    def close(self) -> None:
        """End all stages that run, at their next report of progress or the end of their item."""
        self._closed.set()
