"""The process in which most work runs: the items of maps, and trainings by one worker.

It is without any state until it gets its first work, and is kept for later work of the same shape, since a process that
imports torch and transformers takes seconds to start. Trainings by several workers, and several trainings in one
process, run in worker groups (``cluster/train_group.py``).
"""

import contextlib
import importlib
import os
import pickle
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import OutOfMemoryError, RayActorError

from cluster.ledger import Ledger
from cluster.mirroring import mirrored
from cluster.outcomes import JobResult, Lost, WorkerId, outcome_of
from cluster.progress import ProgressFeed, RemoteWorker
from cluster.resources import Mirror, Resources, Worker
from cluster.waiting import PENDING, RayCalls

MAX_DEATHS = 3
"""How many times an item or a job is run again because its process died."""


@dataclass(frozen=True, slots=True)
class SessionParts:
    """The parts of a session that its maps and trainings share. ``folder`` is a temporary folder on this machine, which
    the session removes; ``pending``: see ``RoomWait``."""

    ledger: Ledger
    ray_calls: RayCalls
    feed: ProgressFeed
    board: Any
    folder: str
    pending: float = PENDING


@dataclass(frozen=True, slots=True)
class ItemContext:
    """What an item's worker needs to know of the map: the channel for progress, its own rank, the number of workers."""

    channel: int
    rank: int
    workers: int


class ItemRunner:
    """Runs items in this process with the function that ``open_worker`` returned, kept while its key stays the same."""

    def __init__(self) -> None:
        self._key = b""
        self._function: Callable[[Any], Any] | None = None
        self._mirror: Mirror | None = None

    def run(self, worker: Worker, key: bytes, opening: bytes, item: bytes) -> Any:
        """The result of one item. ``opening`` is the pickled (open_worker, config, mirror), and ``key`` its digest:
        where that is another than before, the function is opened anew."""
        if self._function is None or self._key != key:
            self.clear()  # frees the memory of the last one before the next is loaded
            open_worker, config, self._mirror = pickle.loads(opening)
            if self._mirror is not None:
                self._mirror.pull()
            self._function = open_worker(config, worker)
            self._key = key
        assert self._function is not None
        result = self._function(pickle.loads(item))
        if self._mirror is not None:
            self._mirror.push()
        return result

    def clear(self) -> None:
        """Drop the open function and close its mirror."""
        self._function = None
        if self._mirror is not None:
            self._mirror.close()
            self._mirror = None


class StageProcess:
    """The actor. It runs one item or one training at a time, in the main thread of its process."""

    def __init__(self, board: Any, threads: int, device: str, omp_threads: int | None = None) -> None:
        """``omp_threads``: what OMP_NUM_THREADS is to be, where Ray does not know how many CPUs the process takes."""
        if omp_threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(omp_threads)
        self._worker = RemoteWorker(threads, device, board)
        self._runner = ItemRunner()

    def ready(self) -> None:
        """Return when the process runs."""

    def load(self, modules: Sequence[str]) -> None:
        """Import modules, so that later work need not wait for them. What cannot be imported is left to the work that
        needs it, which then says so."""
        for name in modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)

    def run(self, context: ItemContext, key: bytes, opening: bytes, item: bytes) -> JobResult:
        """Run one item with ``ItemRunner.run``; its outcome and progress."""
        worker = WorkerId(0, context.rank)
        self._worker.begin(context.channel, worker, context.workers)
        outcome = outcome_of(lambda: self._runner.run(self._worker, key, opening, item))
        return JobResult(outcome, {worker: self._worker.end()})

    def train(self, channel: int, work: bytes) -> JobResult:
        """Run a training with ``run_loop``; its outcome and progress. The function of a map that is open is dropped
        before, to free the memory of its models."""
        worker = WorkerId(0, 0)
        self._worker.begin(channel, worker, 1)
        self._runner.clear()
        outcome = outcome_of(lambda: run_loop(work, self._worker))
        return JobResult(outcome, {worker: self._worker.end()})


def run_loop(work: bytes, worker: Worker) -> Any:
    """The result of a training. ``work`` is the pickled (loop, config, mirror)."""
    loop, config, mirror = pickle.loads(work)
    with mirrored(mirror):
        return loop(config, worker)


class ProcessHandle:
    """The handle of a process, as a tenant of the ledger."""

    def __init__(self, resources: Resources, board: Any, spare: Sequence[str] | None = None) -> None:
        """``spare``: start a process that takes no CPU of Ray's, only of the ledger's as soon as it is claimed, and
        import these modules in it. Only in a Ray of this session's own, where no other driver relies on Ray's count."""
        threads = resources.cpus_per_worker
        options: dict[str, Any] = {
            "num_cpus": threads if spare is None else 0,
            "num_gpus": resources.gpus_per_worker,
            "memory": resources.memory_per_worker,
            "resources": dict(resources.custom_per_worker),
        }
        device = "cuda:0" if resources.gpus_per_worker else "cpu"
        actor: Any = ray.remote(StageProcess).options(**options)
        self.key = b""
        """The key of the function that it has open for a map; b'' where it has none."""
        # Ray sets the variable to the CPUs that it counts, unless the user has set it.
        counted = spare is None or "OMP_NUM_THREADS" in os.environ
        self.actor = actor.remote(board, threads, device, None if counted else threads)
        self.ready = self.actor.ready.remote()
        if spare:
            self.actor.load.remote(spare)

    def submit(self, context: ItemContext, key: bytes, opening: bytes, item: bytes) -> Any:
        """Start an item; a reference to its ``JobResult``."""
        self.key = key
        return self.actor.run.remote(context, key, opening, item)

    def train(self, channel: int, work: bytes) -> Any:
        """Start a training; a reference to its ``JobResult``."""
        self.key = b""
        return self.actor.train.remote(channel, work)

    def close(self) -> None:
        ray.kill(self.actor)


def process_shape(resources: Resources) -> Hashable:
    """The shape of a tenant that is such a process: equal ones can run each other's work, one at a time."""
    return ("process", replace(resources, workers=1, trainings_per_worker=1))


def result_of(reference: Any) -> JobResult:
    """The result of an item or of a training that has ended; ``Lost`` if its process is gone."""
    try:
        ended: JobResult = ray.get(reference)
    except (RayActorError, OutOfMemoryError):
        return JobResult(Lost("its process is gone"), {})
    return ended


def pickled(*parts: Any) -> bytes:
    """The parts of a piece of work, as a process takes them."""
    work: bytes = cloudpickle.dumps(parts)
    return work
