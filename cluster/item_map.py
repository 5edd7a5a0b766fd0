"""``On.map`` over Ray actors that are kept for later maps.

A map worker is a process without any state until it gets ``open_worker`` and a config. It keeps the function that they
opened while they stay the same, and it is itself kept for later maps of the same shape, since starting a process that
imports torch and transformers takes seconds. For the same reason a map on one worker may run in an idle training group
of one.
"""

import contextlib
import hashlib
import pickle
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, cast

import ray
from ray import cloudpickle
from ray.exceptions import OutOfMemoryError, RayActorError

from cluster.amount import Demand
from cluster.ledger import Ledger, Tenant
from cluster.outcomes import Died, JobResult, Lost, WorkerId, outcome_of, value_or_raise
from cluster.progress import ProgressFeed, RemoteWorker
from cluster.resources import Closed, Listener, Mirror, Resources, Worker
from cluster.share import WorkerShare
from cluster.waiting import PENDING, RayCalls, RoomWait

Config = TypeVar("Config")
Item = TypeVar("Item")
Result = TypeVar("Result")

PAUSE_SECONDS = 0.5
"""Seconds between two looks whether a map that has given up all of its workers still may wait."""
MAX_DEATHS = 3
"""How many times an item or a job is run again because its process died."""


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


class MapWorker:
    """The actor that runs items."""

    def __init__(self, board: Any, threads: int, device: str) -> None:
        self._worker = RemoteWorker(threads, device, board)
        self._runner = ItemRunner()

    def ready(self) -> None:
        """Return when the process runs."""

    def run(self, context: ItemContext, key: bytes, opening: bytes, item: bytes) -> JobResult:
        """Run one item with ``ItemRunner.run``; its outcome and progress."""
        worker = WorkerId(0, context.rank)
        self._worker.begin(context.channel, worker, context.workers)
        outcome = outcome_of(lambda: self._runner.run(self._worker, key, opening, item))
        return JobResult(outcome, {worker: self._worker.end()})


class ItemHandle(Protocol):
    """A tenant's handle that can run items."""

    key: bytes
    """The key of the function that it has open; b'' where it has none."""
    ready: Any
    """A reference that resolves when its process runs."""

    def submit(self, context: ItemContext, key: bytes, opening: bytes, item: bytes) -> Any:
        """Start an item; a reference to its ``JobResult``."""
        ...

    def close(self) -> None: ...


class MapWorkerHandle:
    """The handle of a map worker, as a tenant of the ledger."""

    def __init__(self, resources: Resources, board: Any) -> None:
        options: dict[str, Any] = {
            "num_cpus": resources.cpus_per_worker,
            "num_gpus": resources.gpus_per_worker,
            "memory": resources.memory_per_worker,
            "resources": dict(resources.custom_per_worker),
        }
        device = "cuda:0" if resources.gpus_per_worker else "cpu"
        actor: Any = ray.remote(MapWorker).options(**options)
        self.key = b""
        self.actor = actor.remote(board, resources.cpus_per_worker, device)
        self.ready = self.actor.ready.remote()

    def submit(self, context: ItemContext, key: bytes, opening: bytes, item: bytes) -> Any:
        return self.actor.run.remote(context, key, opening, item)

    def close(self) -> None:
        ray.kill(self.actor)


@dataclass(frozen=True, slots=True)
class RunningItem:
    """An item that a worker is running."""

    index: int
    tenant: Tenant
    rank: int
    channel: int


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


def worker_shape(resources: Resources) -> Hashable:
    """The shape of a tenant that is a map worker: equal ones can run each other's items, one at a time."""
    return ("map worker", replace(resources, workers=1, trainings_per_worker=1))


def group_shape(resources: Resources) -> Hashable:
    """The shape of a tenant that is a training group."""
    return ("group", resources)


def map_items(
    parts: SessionParts,
    open_worker: Callable[[Config, Worker], Callable[[Item], Result]],
    config: Config,
    items: Sequence[Item],
    resources: Resources,
    listener: Listener,
    share: WorkerShare,
    mirror: Mirror | None = None,
) -> Iterator[tuple[int, Result]]:
    """``On.map`` over map workers, as many at a time as ``share`` grants. Where the caller stops early, the workers
    that still run an item are ended."""
    if not items:
        return
    if mirror is not None:
        mirror.push()  # workers on other machines read what the stage has written on this one
    run = _Map(parts, cloudpickle.dumps((open_worker, config, mirror)), items, resources, listener, share)
    with share.mapping():
        try:
            for result in run.results():
                if mirror is not None:
                    mirror.pull()  # the files that the item's worker wrote
                yield result
        finally:
            run.end()


class _Map:
    """One call of ``map_items``."""

    def __init__(
        self,
        parts: SessionParts,
        opening: bytes,
        items: Sequence[Any],
        resources: Resources,
        listener: Listener,
        share: WorkerShare,
    ) -> None:
        self._parts = parts
        self._opening = opening
        self._key = hashlib.sha256(opening).digest()
        self._items = items
        self._resources = resources
        self._listener = listener
        self._share = share
        self._left = deque(range(len(items)))
        self._deaths: Counter[int] = Counter()
        self._running: dict[Any, RunningItem] = {}
        self._starting: dict[Any, tuple[Tenant, int]] = {}
        self._workers = min(resources.workers, len(items))
        self._shapes = [worker_shape(resources)]
        if self._workers == resources.trainings_per_worker == 1:
            self._shapes.append(group_shape(replace(resources, workers=1)))
        self._tenants: dict[int, Tenant] = {}
        self._room_wait = self._new_room_wait(self._workers)

    def results(self) -> Iterator[tuple[int, Any]]:
        """(index, result) of each item, as it ends."""
        while self._left or self._running:
            with self._parts.ray_calls.running():
                self._claim_workers()
            if not self._tenants:
                self._share.wait_for(1, PAUSE_SECONDS)
                continue
            with self._parts.ray_calls.running():
                result = self._step()
            if result is not None:
                yield result

    def end(self) -> None:
        """Make the tenants idle; end those that still run an item, and those that have not started yet."""
        busy = [item.tenant for item in self._running.values()]
        for item in self._running.values():
            self._parts.feed.close(item.channel, {})
        with contextlib.suppress(Closed), self._parts.ray_calls.running():
            busy += [tenant for ready, (tenant, _) in self._starting.items() if not ray.wait([ready], timeout=0)[0]]
            for tenant in self._tenants.values():
                if tenant in busy or tenant.handle is None:
                    self._parts.ledger.discard(tenant)
                else:
                    self._parts.ledger.check_in(tenant)

    def _new_room_wait(self, workers: int) -> RoomWait:
        return RoomWait(self._parts.ledger, self._listener, Demand(self._resources.each, workers), self._parts.pending)

    def _claim_workers(self) -> None:
        """Start on as many more workers as are granted and have items to do. A map without any worker waits for room;
        one that has some goes on with those."""
        wanted = min(self._workers - len(self._tenants), len(self._left) - len(self._starting))
        more = self._share.take(wanted)
        if not more:
            return
        room_wait = self._new_room_wait(more)
        waiting = None if self._tenants else room_wait.tick
        claimed = self._parts.ledger.claim(
            self._shapes, Demand(self._resources.each), more, self._has_function, waiting
        )
        self._share.give_back(more - len(claimed))
        if claimed:
            self._room_wait = room_wait
        for tenant in claimed:
            rank = next(rank for rank in range(self._workers) if rank not in self._tenants)
            self._tenants[rank] = tenant
            self._start(tenant, rank)

    def _release(self, rank: int) -> None:
        """Make the tenant idle, so that other work can have it or its resources."""
        tenant = self._tenants.pop(rank)
        if tenant.handle is None:
            self._parts.ledger.discard(tenant)
        else:
            self._parts.ledger.check_in(tenant)

    def _has_function(self, tenant: Tenant) -> bool:
        return tenant.handle is not None and cast(ItemHandle, tenant.handle).key == self._key

    def _start(self, tenant: Tenant, rank: int) -> None:
        """Give the tenant the next item. It is released if there is none, or if the stage has to give up a worker. A
        map worker that has to be started gets its first item when it runs, so that the work does not wait for workers
        that may never be placed."""
        if self._share.give_up_one():
            self._release(rank)
            return
        if not self._left:
            self._share.give_back()
            self._release(rank)
            return
        if tenant.handle is None:
            tenant.shape = worker_shape(self._resources)
            tenant.handle = started = MapWorkerHandle(self._resources, self._parts.board)
            self._starting[started.ready] = (tenant, rank)
            return
        handle = cast(ItemHandle, tenant.handle)
        handle.key = self._key
        index = self._left.popleft()
        context = ItemContext(self._parts.feed.open(self._listener), rank, self._workers)
        ref = handle.submit(context, self._key, self._opening, cloudpickle.dumps(self._items[index]))
        self._running[ref] = RunningItem(index, tenant, rank, context.channel)

    def _step(self) -> tuple[int, Any] | None:
        """Wait up to a second for an item to end. Returns (index, result), when its worker has begun its next item."""
        ready, _ = ray.wait([*self._running, *self._starting], timeout=1.0)
        if not ready:
            if self._starting:
                self._room_wait.tick(alone=not self._running)
            return None
        if ready[0] in self._starting:
            self._started(ready[0])
            return None
        item = self._running.pop(ready[0])
        try:
            ended: JobResult = ray.get(ready[0])
        except (RayActorError, OutOfMemoryError):
            ended = JobResult(Lost("its process is gone"), {})
        self._parts.feed.close(item.channel, ended.reports)
        if isinstance(ended.outcome, Lost):
            self._left.appendleft(item.index)
            self._replace(item.tenant, item.rank)
            return None
        result = value_or_raise(ended.outcome, self._name(item.index))
        self._start(item.tenant, item.rank)
        return item.index, result

    def _started(self, ready: Any) -> None:
        """A map worker runs now, or died while it was starting."""
        tenant, rank = self._starting.pop(ready)
        try:
            ray.get(ready)
        except (RayActorError, OutOfMemoryError):
            self._replace(tenant, rank)
        else:
            self._start(tenant, rank)

    def _replace(self, tenant: Tenant, rank: int) -> None:
        """Start another map worker in the place of one that died, unless the first item that is left was lost too
        often. Raises ``WorkerDied`` then."""
        if tenant.handle is not None:
            tenant.handle.close()
            tenant.handle = None
        if self._left:
            index = self._left[0]
            self._deaths[index] += 1
            if self._deaths[index] > MAX_DEATHS:
                value_or_raise(Died(self._deaths[index]), self._name(index))
        self._start(tenant, rank)

    def _name(self, index: int) -> str:
        return f"item {index} of {len(self._items)}"
