"""``On.map`` over processes that are kept for later work."""

import contextlib
import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import ray
from ray import cloudpickle
from ray.exceptions import OutOfMemoryError, RayActorError

from cluster.amount import Demand
from cluster.ledger import Tenant
from cluster.outcomes import Died, Lost, value_or_raise
from cluster.resources import Closed, Listener, Mirror, Resources, Worker
from cluster.share import WorkerShare
from cluster.stage_process import (
    MAX_DEATHS,
    ItemContext,
    ProcessHandle,
    SessionParts,
    pickled,
    process_shape,
    result_of,
)
from cluster.waiting import RoomWait

Config = TypeVar("Config")
Item = TypeVar("Item")
Result = TypeVar("Result")

PAUSE_SECONDS = 0.5
"""Seconds between two looks whether a map that has given up all of its workers still may wait."""


@dataclass(frozen=True, slots=True)
class RunningItem:
    """An item that a worker is running."""

    index: int
    tenant: Tenant
    rank: int
    channel: int


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
    """``On.map`` over processes, as many at a time as ``share`` grants. Where the caller stops early, the workers
    that still run an item are ended."""
    if not items:
        return
    if mirror is not None:
        mirror.push()  # workers on other machines read what the stage has written on this one
    run = _Map(parts, pickled(open_worker, config, mirror), items, resources, listener, share)
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
        self._shapes = [process_shape(resources)]
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
        return tenant.handle is not None and cast(ProcessHandle, tenant.handle).key == self._key

    def _start(self, tenant: Tenant, rank: int) -> None:
        """Give the tenant the next item. It is released if there is none, or if the stage has to give up a worker. A
        process that has to be started gets its first item when it runs, so that the work does not wait for workers
        that may never be placed."""
        if self._share.give_up_one():
            self._release(rank)
            return
        if not self._left:
            self._share.give_back()
            self._release(rank)
            return
        if tenant.handle is None:
            tenant.handle = started = ProcessHandle(self._resources, self._parts.board)
            self._starting[started.ready] = (tenant, rank)
            return
        handle = cast(ProcessHandle, tenant.handle)
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
        ended = result_of(ready[0])
        self._parts.feed.close(item.channel, ended.reports)
        if isinstance(ended.outcome, Lost):
            self._left.appendleft(item.index)
            self._replace(item.tenant, item.rank)
            return None
        result = value_or_raise(ended.outcome, self._name(item.index))
        self._start(item.tenant, item.rank)
        return item.index, result

    def _started(self, ready: Any) -> None:
        """A process runs now, or died while it was starting."""
        tenant, rank = self._starting.pop(ready)
        try:
            ray.get(ready)
        except (RayActorError, OutOfMemoryError):
            self._replace(tenant, rank)
        else:
            self._start(tenant, rank)

    def _replace(self, tenant: Tenant, rank: int) -> None:
        """Start another process in the place of one that died, unless the first item that is left was lost too
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
