"""``map`` over Ray actors: seats that stay, and take one piece of work after another.

A seat is a process that knows nothing until it is given ``open_worker`` and a config. It keeps what
they opened while they stay the same, and it is kept itself for later maps of the same shape: a process
that has imported torch and transformers is worth seconds. For the same reason a map on one worker may
be done in an idle training group of one.
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
from cluster.outcomes import Died, Ended, Lost, WorkerId, attempt, settle
from cluster.patience import PENDING, Gate, Patience
from cluster.progress import Feed, RemoteWorker
from cluster.resources import Closed, Listener, Mirror, Resources, Worker

Config = TypeVar("Config")
Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_DEATHS = 3
"""How many times an item or a job is done again because its process died."""


@dataclass(frozen=True, slots=True)
class Post:
    """Where an item stands in its map: its channel for progress, its seat's rank, how many seats there are."""

    channel: int
    rank: int
    seats: int


class Bench:
    """What a process has open: the function that ``open_worker`` returned, while its key stays the same."""

    def __init__(self) -> None:
        self._key = b""
        self._do: Callable[[Any], Any] | None = None
        self._mirror: Mirror | None = None

    def do(self, worker: Worker, key: bytes, opening: bytes, item: bytes) -> Any:
        """Do one item; open first where ``key`` is not what is open."""
        if self._do is None or self._key != key:
            self.clear()  # what was open is freed before the next is loaded
            open_worker, config, self._mirror = pickle.loads(opening)
            if self._mirror is not None:
                self._mirror.pull()
            self._do = open_worker(config, worker)
            self._key = key
        assert self._do is not None
        result = self._do(pickle.loads(item))
        if self._mirror is not None:
            self._mirror.push()
        return result

    def clear(self) -> None:
        self._do = None
        if self._mirror is not None:
            self._mirror.close()
            self._mirror = None


class Seat:
    """The actor."""

    def __init__(self, board: Any, threads: int, device: str) -> None:
        self._worker = RemoteWorker(threads, device, board)
        self._bench = Bench()

    def ready(self) -> None:
        """Answers once the process runs."""

    def do(self, post: Post, key: bytes, opening: bytes, item: bytes) -> Ended:
        part = WorkerId(0, post.rank)
        self._worker.begin(post.channel, part, post.seats)
        outcome = attempt(lambda: self._bench.do(self._worker, key, opening, item))
        return Ended(outcome, {part: self._worker.end()})


class Doer(Protocol):
    """A tenant's body that can do items."""

    key: bytes
    """What it has open."""
    ready: Any
    """Resolves once its process runs."""

    def submit(self, post: Post, key: bytes, opening: bytes, item: bytes) -> Any:
        """A reference to the item's ``Ended``."""
        ...

    def close(self) -> None: ...


class SeatBody:
    """A seat as the ledger's tenant."""

    def __init__(self, resources: Resources, board: Any) -> None:
        options: dict[str, Any] = {
            "num_cpus": resources.cpus_per_worker,
            "num_gpus": resources.gpus_per_worker,
            "memory": resources.memory_per_worker,
            "resources": dict(resources.custom_per_worker),
        }
        device = "cuda:0" if resources.gpus_per_worker else "cpu"
        actor: Any = ray.remote(Seat).options(**options)
        self.key = b""
        self.actor = actor.remote(board, resources.cpus_per_worker, device)
        self.ready = self.actor.ready.remote()

    def submit(self, post: Post, key: bytes, opening: bytes, item: bytes) -> Any:
        return self.actor.do.remote(post, key, opening, item)

    def close(self) -> None:
        ray.kill(self.actor)


@dataclass(frozen=True, slots=True)
class Turn:
    """One item under way."""

    index: int
    tenant: Tenant
    rank: int
    channel: int


@dataclass(frozen=True, slots=True)
class Desk:
    """What the maps and trainings of a session share."""

    ledger: Ledger
    gate: Gate
    feed: Feed
    board: Any
    pending: float = PENDING


def seat_shape(resources: Resources) -> Hashable:
    return ("seat", replace(resources, workers=1))


def group_shape(resources: Resources) -> Hashable:
    return ("group", resources)


def map_items(
    desk: Desk,
    open_worker: Callable[[Config, Worker], Callable[[Item], Result]],
    config: Config,
    items: Sequence[Item],
    resources: Resources,
    listener: Listener,
    mirror: Mirror | None = None,
) -> Iterator[tuple[int, Result]]:
    """``On.map`` over seats. Where the caller stops early, the seats still at work are ended."""
    if not items:
        return
    if mirror is not None:
        mirror.push()  # workers elsewhere read what the stage has written here
    run = _Map(desk, cloudpickle.dumps((open_worker, config, mirror)), items, resources, listener)
    try:
        for ended in run.results():
            if mirror is not None:
                mirror.pull()  # what the item's worker wrote
            yield ended
    finally:
        run.leave()


class _Map:
    """One map under way."""

    def __init__(
        self, desk: Desk, opening: bytes, items: Sequence[Any], resources: Resources, listener: Listener
    ) -> None:
        self._desk = desk
        self._opening = opening
        self._key = hashlib.sha256(opening).digest()
        self._items = items
        self._resources = resources
        self._listener = listener
        self._left = deque(range(len(items)))
        self._deaths: Counter[int] = Counter()
        self._turns: dict[Any, Turn] = {}
        self._starting: dict[Any, tuple[Tenant, int]] = {}
        seats = min(resources.workers, len(items))
        self._patience = Patience(desk.ledger, listener, Demand(resources.each, seats), desk.pending)
        shapes = [seat_shape(resources)] + ([group_shape(replace(resources, workers=1))] if seats == 1 else [])
        with desk.gate.passing():
            self._tenants = desk.ledger.claim(
                shapes, Demand(resources.each), seats, self._has_open, self._patience.tick
            )

    def results(self) -> Iterator[tuple[int, Any]]:
        with self._desk.gate.passing():
            for rank, tenant in enumerate(self._tenants):
                self._start(tenant, rank)
        while self._turns or (self._starting and self._left):
            with self._desk.gate.passing():
                ended = self._step()
            if ended is not None:
                yield ended

    def leave(self) -> None:
        """Give the seats back; end those that are still at work, and those that have not come yet."""
        busy = [turn.tenant for turn in self._turns.values()]
        for turn in self._turns.values():
            self._desk.feed.close(turn.channel, {})
        with contextlib.suppress(Closed), self._desk.gate.passing():
            busy += [tenant for ready, (tenant, _) in self._starting.items() if not ray.wait([ready], timeout=0)[0]]
            for tenant in self._tenants:
                if tenant in busy or tenant.body is None:
                    self._desk.ledger.discard(tenant)
                else:
                    self._desk.ledger.check_in(tenant)

    def _has_open(self, tenant: Tenant) -> bool:
        return tenant.body is not None and cast(Doer, tenant.body).key == self._key

    def _start(self, tenant: Tenant, rank: int) -> None:
        """The next item, if there is one, for this seat. A seat that has to be started gets one when it has come:
        where others never come, it does the work alone."""
        if not self._left:
            return
        if tenant.body is None:
            tenant.shape = seat_shape(self._resources)
            tenant.body = body = SeatBody(self._resources, self._desk.board)
            self._starting[body.ready] = (tenant, rank)
            return
        doer = cast(Doer, tenant.body)
        doer.key = self._key
        index = self._left.popleft()
        post = Post(self._desk.feed.open(self._listener), rank, len(self._tenants))
        ref = doer.submit(post, self._key, self._opening, cloudpickle.dumps(self._items[index]))
        self._turns[ref] = Turn(index, tenant, rank, post.channel)

    def _step(self) -> tuple[int, Any] | None:
        """Wait up to a second; the result of a turn that ended, the seat already at its next item."""
        ready, _ = ray.wait([*self._turns, *self._starting], timeout=1.0)
        if not ready:
            if self._starting:
                self._patience.tick(alone=not self._turns)
            return None
        if ready[0] in self._starting:
            self._seated(ready[0])
            return None
        turn = self._turns.pop(ready[0])
        try:
            ended: Ended = ray.get(ready[0])
        except (RayActorError, OutOfMemoryError):
            ended = Ended(Lost("its process is gone"), {})
        self._desk.feed.close(turn.channel, ended.said)
        if isinstance(ended.outcome, Lost):
            self._left.appendleft(turn.index)
            self._bury(turn.tenant, turn.rank)
            return None
        result = settle(ended.outcome, self._name(turn.index))
        self._start(turn.tenant, turn.rank)
        return turn.index, result

    def _seated(self, ready: Any) -> None:
        """A seat has come, or died on its way."""
        tenant, rank = self._starting.pop(ready)
        try:
            ray.get(ready)
        except (RayActorError, OutOfMemoryError):
            self._bury(tenant, rank)
        else:
            self._start(tenant, rank)

    def _bury(self, tenant: Tenant, rank: int) -> None:
        """The seat is gone, and the first item that is left with it: another seat takes its place."""
        if tenant.body is not None:
            tenant.body.close()
            tenant.body = None
        if not self._left:
            return
        index = self._left[0]
        self._deaths[index] += 1
        if self._deaths[index] > MAX_DEATHS:
            settle(Died(self._deaths[index]), self._name(index))
        self._start(tenant, rank)

    def _name(self, index: int) -> str:
        return f"item {index} of {len(self._items)}"
