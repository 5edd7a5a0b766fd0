"""``map`` over Ray actors: seats that stay, and take one piece of work after another.

A seat is a process that knows nothing until it is given ``open_worker`` and a config. It keeps what
they opened while they stay the same, and it is kept itself for later maps of the same shape: a process
that has imported torch and transformers is worth seconds.
"""

import hashlib
import pickle
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import ray
from ray import cloudpickle
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError

from cluster.ledger import Ledger, Tenant, per_worker
from cluster.outcomes import Done, Failed, attempt, settle
from cluster.patience import Gate, Patience
from cluster.progress import Feed, Part, RemoteWorker, Said
from cluster.resources import Listener, Resources, WorkerDied, Worker

Config = TypeVar("Config")
Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_DEATHS = 3
DEATHS = (RayActorError, ActorUnavailableError, OutOfMemoryError)


@dataclass(frozen=True, slots=True)
class Post:
    """Where an item stands in its map: its channel for progress, its seat's rank, how many seats there are."""

    channel: int
    rank: int
    seats: int


class Seat:
    """The actor."""

    def __init__(self, board: Any, threads: int, device: str) -> None:
        self._worker = RemoteWorker(threads, device, board)
        self._key = b""
        self._do: Callable[[Any], Any] | None = None

    def ready(self) -> None:
        """Answers once the process runs."""

    def do(self, post: Post, key: bytes, opening: bytes, item: bytes) -> tuple[Done | Failed, Said]:
        """Do one item; open first where ``key`` is not what is open."""
        self._worker.begin(post.channel, Part(0, post.rank), post.seats)
        outcome = attempt(lambda: self._opened(key, opening)(pickle.loads(item)))
        return outcome, self._worker.end()

    def _opened(self, key: bytes, opening: bytes) -> Callable[[Any], Any]:
        if self._do is None or self._key != key:
            self._do = None  # what was open is freed before the next is loaded
            open_worker, config = pickle.loads(opening)
            self._do = open_worker(config, self._worker)
            self._key = key
        return self._do


class SeatBody:
    """A seat as the ledger's tenant: its actor, and what was last opened there."""

    def __init__(self, resources: Resources, board: Any) -> None:
        options: dict[str, Any] = {"num_cpus": resources.cpus_per_worker, "num_gpus": resources.gpus_per_worker}
        if resources.memory_per_worker is not None:
            options["memory"] = resources.memory_per_worker
        device = "cuda:0" if resources.gpus_per_worker else "cpu"
        self.key = b""
        self.actor = ray.remote(Seat).options(**options).remote(board, resources.cpus_per_worker, device)
        self.ready = self.actor.ready.remote()

    def close(self) -> None:
        ray.kill(self.actor)


@dataclass(frozen=True, slots=True)
class Turn:
    """One item on one seat, under way."""

    index: int
    tenant: Tenant
    rank: int
    channel: int


@dataclass(frozen=True, slots=True)
class Desk:
    """What the maps of a session share."""

    ledger: Ledger
    gate: Gate
    feed: Feed
    board: Any


def map_items(
    desk: Desk,
    open_worker: Callable[[Config, Worker], Callable[[Item], Result]],
    config: Config,
    items: Sequence[Item],
    resources: Resources,
    listener: Listener,
) -> Iterator[tuple[int, Result]]:
    """``On.map`` over seats. Where the caller stops early, the seats still at work are ended."""
    if not items:
        return
    opening = cloudpickle.dumps((open_worker, config))
    run = _Map(desk, opening, items, resources, listener)
    try:
        yield from run.results()
    finally:
        run.leave()


class _Map:
    """One map under way."""

    def __init__(
        self, desk: Desk, opening: bytes, items: Sequence[Any], resources: Resources, listener: Listener
    ) -> None:
        self._desk = desk
        self._resources = resources
        self._listener = listener
        self._items = items
        self._key = hashlib.sha256(opening).digest()
        self._seats = min(resources.workers, len(items))
        self._left = deque(range(len(items)))
        self._deaths: Counter[int] = Counter()
        self._turns: dict[Any, Turn] = {}
        shape = ("seat", resources.cpus_per_worker, resources.gpus_per_worker, resources.memory_per_worker)
        amount = per_worker(resources)
        self._patience = Patience(desk.ledger, listener, amount, self._seats)
        self._tenants = desk.ledger.claim(shape, amount, self._seats, self._has_open)
        with desk.gate.passing():
            self._opening = ray.put(opening)

    def results(self) -> Iterator[tuple[int, Any]]:
        with self._desk.gate.passing():
            for rank, tenant in enumerate(self._tenants):
                self._start(tenant, rank)
        while self._turns:
            with self._desk.gate.passing():
                ended = self._step()
            if ended is not None:
                yield ended

    def leave(self) -> None:
        """Give the seats back; end those that are still at work."""
        busy = [turn.tenant for turn in self._turns.values()]
        for turn in self._turns.values():
            self._desk.feed.close(turn.channel, {})
        for tenant in self._tenants:
            if tenant in busy:
                self._desk.ledger.discard(tenant)
            else:
                self._desk.ledger.check_in(tenant)

    def _has_open(self, tenant: Tenant) -> bool:
        return isinstance(tenant.body, SeatBody) and tenant.body.key == self._key

    def _start(self, tenant: Tenant, rank: int) -> None:
        """The next item for this seat, which is started where it is not there."""
        if not self._left:
            return
        if tenant.body is None:
            tenant.body = SeatBody(self._resources, self._desk.board)
        seat = cast(SeatBody, tenant.body)
        seat.key = self._key
        index = self._left.popleft()
        channel = self._desk.feed.open(self._listener)
        item = cloudpickle.dumps(self._items[index])
        ref = seat.actor.do.remote(Post(channel, rank, self._seats), self._key, self._opening, item)
        self._turns[ref] = Turn(index, tenant, rank, channel)

    def _step(self) -> tuple[int, Any] | None:
        """Wait up to a second; the result of a turn that ended, the seat already at its next item."""
        ended, _ = ray.wait(list(self._turns), timeout=1.0)
        if not ended:
            self._look_for_room()
            return None
        turn = self._turns.pop(ended[0])
        try:
            outcome, said = ray.get(ended[0])
        except DEATHS as error:
            self._bury(turn, error)
            return None
        self._desk.feed.close(turn.channel, {Part(0, turn.rank): said})
        result = settle(outcome)
        self._start(turn.tenant, turn.rank)
        return turn.index, result

    def _look_for_room(self) -> None:
        pending = [cast(SeatBody, turn.tenant.body).ready for turn in self._turns.values()]
        if len(ray.wait(pending, num_returns=len(pending), timeout=0)[0]) < len(pending):
            self._patience.tick()

    def _bury(self, turn: Turn, error: Exception) -> None:
        """The seat is gone: another takes its place and does the item again."""
        self._desk.feed.close(turn.channel, {})
        self._deaths[turn.index] += 1
        if turn.tenant.body is not None:
            turn.tenant.body.close()
        turn.tenant.body = None
        if self._deaths[turn.index] > MAX_DEATHS:
            raise WorkerDied(
                f"item {turn.index} of {len(self._items)}: its worker died {self._deaths[turn.index]} times "
                f"(memory, or a crash in native code): {str(error).splitlines()[0]}"
            )
        self._left.appendleft(turn.index)
        self._start(turn.tenant, turn.rank)
