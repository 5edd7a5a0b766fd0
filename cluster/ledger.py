"""Which processes hold which part of the cluster, so that idle ones can be used again or make room.

A tenant is a process for maps and trainings, or a training group. After its work it stays, idle, until a claim of the
same shape takes it again, other work needs its room, or it has been idle too long. A claim is granted as a whole or not
at all, so claims cannot block each other. All of this is the driver's own: Ray's scheduler only places what has been
claimed.

A tenant has one slot, or several: as many claims may use it at the same time. It is idle when no slot is in use. A free
slot of a tenant that is in use is taken before an idle tenant, and the tenant with the most slots in use before others,
so that trainings which are left over gather in few processes and the other processes become idle.

A spare is a process that was started before its work, and holds nothing until a claim of its shape takes it instead of
starting one.
"""

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from cluster.amount import Demand
from cluster.resources import Capacity, Closed


class Handle(Protocol):
    """The running processes of a tenant."""

    ready: Any
    """A reference that resolves when all processes have been placed and run."""

    def close(self) -> None:
        """Stop the processes; their resources are free on return, or soon after."""
        ...


@dataclass(eq=False)
class Tenant:
    """Holds the resources ``demand``, for ``slots`` claims at the same time, of which ``in_use`` are taken. ``handle``
    is None until a claimant has started processes, under ``starting`` where there may be several claimants.
    ``idle_since`` is None while it is in use. A tenant that is ``ending`` is claimed no more, and ends when its last
    slot is free."""

    shape: Hashable
    demand: Demand
    slots: int = 1
    in_use: int = 1
    handle: Handle | None = None
    idle_since: float | None = field(default=None)
    ending: bool = False
    starting: threading.Lock = field(default_factory=threading.Lock)

    @property
    def has_free_slot(self) -> bool:
        return self.in_use < self.slots and not self.ending


class Ledger:
    """The tenants of a cluster. All methods may be called from any thread."""

    def __init__(self, capacity: Callable[[], Capacity], clock: Callable[[], float]) -> None:
        self._capacity = capacity
        self._clock = clock
        self._tenants: list[Tenant] = []
        self._spares: list[tuple[Hashable, Handle]] = []
        self._waiting: list[Demand] = []
        self._changed = threading.Condition()
        self._closed = False

    def claim(
        self,
        shapes: Sequence[Hashable],
        demand: Demand,
        count: int,
        preferred: Callable[[Tenant], bool],
        waiting: Callable[[], None] | None = lambda: None,
    ) -> list[Tenant]:
        """A slot in each of ``count`` tenants of any of these shapes: those that have a free slot first, the
        ``preferred`` before others; the rest are new, of the first shape, with the slots that ``demand`` names.

        Waits for room, and meanwhile calls ``waiting`` each second, which may raise; where it is None, returns []
        instead of waiting. A claim that the cluster cannot
        hold is granted when no other tenant is in use, since the cluster may grow. Raises ``Closed``.
        """
        whole = replace(demand, count=demand.count * count)
        with self._changed:
            self._waiting.append(whole)
        try:
            while True:
                with self._changed:
                    if self._closed:
                        raise Closed("the session is closed")
                    victims = self._victims(shapes, Demand(demand.each, demand.workers), count)
                    if victims is None:
                        return self._take(shapes, demand, count, preferred)
                    for victim in victims:
                        self._tenants.remove(victim)
                    if not victims and waiting is None:
                        return []
                    if not victims:
                        self._changed.wait(timeout=1.0)
                self._close(victims)
                if not victims and waiting is not None:
                    waiting()
        finally:
            with self._changed:
                self._waiting.remove(whole)

    def add_spare(self, shape: Hashable, handle: Handle) -> None:
        """Keep the running process of ``handle`` for the first claim of ``shape`` that would start one. A process for
        one claim at a time. Raises ``Closed``."""
        with self._changed:
            if not self._closed:
                self._spares.append((shape, handle))
                return
        handle.close()
        raise Closed("the session is closed")

    def end_spares(self) -> None:
        """End the spares that no claim has taken."""
        with self._changed:
            spares, self._spares = self._spares, []
        for _, handle in spares:
            handle.close()

    def wanted(self) -> list[Demand]:
        """The demands of all tenants, and of all claims that wait."""
        with self._changed:
            return [tenant.demand for tenant in self._tenants] + self._waiting

    def handles(self) -> list[Handle | None]:
        """Of every tenant; None for one that was claimed and has started nothing yet."""
        with self._changed:
            return [tenant.handle for tenant in self._tenants]

    def check_in(self, tenant: Tenant) -> None:
        """Free a slot of the tenant: its work is done, and the slot may be taken again."""
        with self._changed:
            self._leave(tenant)
            if not tenant.ending or tenant.in_use:
                return
        self._end(tenant)

    def discard(self, tenant: Tenant) -> None:
        """Free a slot of the tenant, which no claim may take again: end the tenant and free its resources, as soon as
        no other slot of it is in use."""
        with self._changed:
            tenant.ending = True
            self._leave(tenant)
            if tenant.in_use:
                return
        self._end(tenant)

    def expire(self, age: float) -> None:
        """End the tenants that have been idle for ``age`` seconds. Where nodes were lost, end further idle ones until
        the rest fit: what ran on the lost nodes is started again, and needs their room."""
        with self._changed:
            now = self._clock()
            old = [t for t in self._tenants if t.idle_since is not None and now - t.idle_since >= age]
            for tenant in old:
                self._tenants.remove(tenant)
            old += self._take_surplus()
        self._close(old)

    def _take_surplus(self) -> list[Tenant]:
        """Remove idle tenants, oldest first, until the cluster holds the rest. Returns the removed."""
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
        """Whether the present nodes could hold the demand if they were empty."""
        return self._capacity().room(demand.each) >= demand.workers

    def nodes(self) -> str:
        """The present nodes as text: ``2 nodes of 4 CPUs``."""
        return str(self._capacity())

    def close(self) -> list[Handle]:
        """Forget all tenants, and return the handles that are to be closed. Waiting and later claims raise
        ``Closed``."""
        with self._changed:
            self._closed = True
            handles = [tenant.handle for tenant in self._tenants if tenant.handle is not None]
            for tenant in self._tenants:
                tenant.handle = None
            handles += [handle for _, handle in self._spares]
            self._tenants, self._spares = [], []
            self._changed.notify_all()
            return handles

    def _victims(self, shapes: Sequence[Hashable], demand: Demand, count: int) -> list[Tenant] | None:
        """The idle tenants to end, oldest first, for a claim of ``count`` tenants of ``demand`` to fit; [] if it must
        wait; None if it fits as it is."""
        idle = sorted((t for t in self._tenants if t.idle_since is not None), key=lambda t: t.idle_since or 0.0)
        used = [t for t in self._tenants if t.idle_since is None and t.has_free_slot]
        kept = [t for t in [*idle, *used] if t.shape in shapes][-count:]
        if len(kept) == count:
            return None
        others = [t for t in idle if t not in kept]
        need = Demand(demand.each, demand.count * (count - len(kept)))
        capacity = self._capacity()
        for ended in range(len(others) + 1):
            stay = [t.demand for t in self._tenants if t not in others[:ended]]
            if capacity.packs([*stay, need]):
                return others[:ended] or None
        alone = all(t.idle_since is not None for t in self._tenants)
        return (others or None) if alone else []

    def _take(
        self, shapes: Sequence[Hashable], demand: Demand, count: int, preferred: Callable[[Tenant], bool]
    ) -> list[Tenant]:
        free = [t for t in self._tenants if t.has_free_slot and t.shape in shapes]
        taken = sorted(free, key=lambda t: (t.in_use, preferred(t)), reverse=True)[:count]
        for tenant in taken:
            tenant.in_use += 1
            tenant.idle_since = None
        each = Demand(demand.each, demand.workers)
        fresh = [Tenant(shapes[0], each, demand.slots) for _ in range(count - len(taken))]
        for tenant in fresh:
            tenant.handle = self._take_spare(tenant.shape)
        self._tenants.extend(fresh)
        return taken + fresh

    def _take_spare(self, shape: Hashable) -> Handle | None:
        for place, (other, handle) in enumerate(self._spares):
            if other == shape:
                del self._spares[place]
                return handle
        return None

    def _leave(self, tenant: Tenant) -> None:
        """Free one slot."""
        tenant.in_use -= 1
        if not tenant.in_use and not tenant.ending:
            tenant.idle_since = self._clock()
        self._changed.notify_all()

    def _end(self, tenant: Tenant) -> None:
        self._close([tenant])
        with self._changed:
            if tenant in self._tenants:
                self._tenants.remove(tenant)
            self._changed.notify_all()

    def _close(self, tenants: list[Tenant]) -> None:
        for tenant in tenants:
            if tenant.handle is not None:
                tenant.handle.close()
                tenant.handle = None
