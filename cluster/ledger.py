"""Who holds what of the cluster: one lock, and idle tenants that make room for others.

A tenant is a seat or a training group. It stays after its work, idle, to be taken again by work of
the same shape, until other work needs its room or it has been idle too long. A claim is granted whole
or not at all, so claims cannot wait for each other. Ray's own scheduler knows nothing of this.
"""

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cluster.amount import Demand
from cluster.resources import Capacity, Closed


class Body(Protocol):
    """What a tenant is made of."""

    ready: Any
    """Resolves once all of it has been placed and runs."""

    def close(self) -> None:
        """Stop it, and return when its resources are free or soon will be."""
        ...


@dataclass(eq=False)
class Tenant:
    """A holder of what ``demand`` says. ``body`` is None until whoever claimed it has started something there."""

    shape: Hashable
    demand: Demand
    body: Body | None = None
    idle_since: float | None = field(default=None)


class Ledger:
    """Claims and tenants. All methods may be called from any thread."""

    def __init__(self, capacity: Callable[[], Capacity], clock: Callable[[], float]) -> None:
        self._capacity = capacity
        self._clock = clock
        self._tenants: list[Tenant] = []
        self._waiting: list[Demand] = []
        self._changed = threading.Condition()
        self._closed = False

    def claim(
        self,
        shapes: Sequence[Hashable],
        demand: Demand,
        count: int,
        likes: Callable[[Tenant], bool],
        waiting: Callable[[], None] = lambda: None,
    ) -> list[Tenant]:
        """``count`` tenants of one of these shapes, idle ones first, among them those that ``likes``.

        New ones are of the first shape. Waits for room, and calls ``waiting`` each second of it, which may raise. A
        claim beyond the cluster is granted when nobody else holds anything: the cluster may grow.
        """
        wish = Demand(demand.each, demand.count * count)
        with self._changed:
            self._waiting.append(wish)
        try:
            while True:
                with self._changed:
                    if self._closed:
                        raise Closed("the session is closed")
                    victims = self._victims(shapes, wish, count)
                    if victims is None:
                        return self._take(shapes, demand, count, likes)
                    for victim in victims:
                        self._tenants.remove(victim)
                    if not victims:
                        self._changed.wait(timeout=1.0)
                self._close(victims)
                if not victims:
                    waiting()
        finally:
            with self._changed:
                self._waiting.remove(wish)

    def wanted(self) -> list[Demand]:
        """All that is held, and all that is waited for."""
        with self._changed:
            return [tenant.demand for tenant in self._tenants] + self._waiting

    def bodies(self) -> list[Body | None]:
        """Of every tenant; None for one that is claimed and has started nothing yet."""
        with self._changed:
            return [tenant.body for tenant in self._tenants]

    def check_in(self, tenant: Tenant) -> None:
        """The tenant's work is done; it may be taken again."""
        with self._changed:
            tenant.idle_since = self._clock()
            self._changed.notify_all()

    def discard(self, tenant: Tenant) -> None:
        """End the tenant and free what it holds."""
        self._close([tenant])
        with self._changed:
            self._drop(tenant)

    def expire(self, age: float) -> None:
        """End the tenants that have been idle for ``age`` seconds, and, where nodes were lost, as many idle ones as are
        too many: what was on those nodes is started again, and would wait for room that they hold."""
        with self._changed:
            now = self._clock()
            old = [t for t in self._tenants if t.idle_since is not None and now - t.idle_since >= age]
            for tenant in old:
                self._tenants.remove(tenant)
            old += self._too_many()
        self._close(old)

    def _too_many(self) -> list[Tenant]:
        """Take out idle tenants, oldest first, until the cluster holds all that are left."""
        idle = sorted((t for t in self._tenants if t.idle_since is not None), key=lambda t: t.idle_since or 0.0)
        gone: list[Tenant] = []
        capacity = self._capacity() if idle else None
        for tenant in idle:
            if capacity is None or capacity.packs([other.demand for other in self._tenants]):
                break
            self._tenants.remove(tenant)
            gone.append(tenant)
        return gone

    def could_hold(self, demand: Demand) -> bool:
        """Whether the nodes that are there could hold so much, were they empty."""
        return self._capacity().room(demand.each) >= demand.count

    def nodes(self) -> str:
        """The nodes that are there, in words."""
        return str(self._capacity())

    def close(self) -> list[Body]:
        """Let go of all tenants, and return what is to be ended. Claims, waiting and later, raise ``Closed``."""
        with self._changed:
            self._closed = True
            bodies = [tenant.body for tenant in self._tenants if tenant.body is not None]
            for tenant in self._tenants:
                tenant.body = None
            self._tenants = []
            self._changed.notify_all()
            return bodies

    def _victims(self, shapes: Sequence[Hashable], wish: Demand, count: int) -> list[Tenant] | None:
        """Idle tenants to end, oldest first, for the claim to fit; [] to wait; None if it fits as things are."""
        idle = sorted((t for t in self._tenants if t.idle_since is not None), key=lambda t: t.idle_since or 0.0)
        kept = [t for t in idle if t.shape in shapes][-count:]
        if len(kept) == count:
            return None
        others = [t for t in idle if t not in kept]
        need = Demand(wish.each, wish.count // count * (count - len(kept)))
        capacity = self._capacity()
        for ended in range(len(others) + 1):
            stay = [t.demand for t in self._tenants if t not in others[:ended]]
            if capacity.packs([*stay, need]):
                return others[:ended] or None
        alone = all(t.idle_since is not None for t in self._tenants)
        return (others or None) if alone else []

    def _take(
        self, shapes: Sequence[Hashable], demand: Demand, count: int, likes: Callable[[Tenant], bool]
    ) -> list[Tenant]:
        idle = [t for t in self._tenants if t.idle_since is not None and t.shape in shapes]
        taken = sorted(idle, key=likes, reverse=True)[:count]
        for tenant in taken:
            tenant.idle_since = None
        fresh = [Tenant(shapes[0], demand) for _ in range(count - len(taken))]
        self._tenants.extend(fresh)
        return taken + fresh

    def _drop(self, tenant: Tenant) -> None:
        if tenant in self._tenants:
            self._tenants.remove(tenant)
        self._changed.notify_all()

    def _close(self, tenants: list[Tenant]) -> None:
        for tenant in tenants:
            if tenant.body is not None:
                tenant.body.close()
                tenant.body = None
