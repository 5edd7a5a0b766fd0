"""Who holds what of the cluster: one lock, and idle tenants that make room for others.

A tenant is a seat or a training group. It stays after its work, idle, to be taken again by work of
the same shape, until other work needs its room or it has been idle too long. A claim is granted whole
or not at all, so claims cannot wait for each other. Ray's own scheduler knows nothing of this.
"""

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cluster.resources import Closed, Resources


@dataclass(frozen=True, slots=True)
class Amount:
    """CPUs, GPUs and bytes."""

    cpus: float = 0.0
    gpus: float = 0.0
    memory: float = 0.0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.cpus + other.cpus, self.gpus + other.gpus, self.memory + other.memory)

    def times(self, count: int) -> "Amount":
        return Amount(self.cpus * count, self.gpus * count, self.memory * count)

    def within(self, other: "Amount") -> bool:
        slack = 1e-6  # sums of fractional GPUs
        return (
            self.cpus <= other.cpus + slack and self.gpus <= other.gpus + slack and self.memory <= other.memory + slack
        )


def per_worker(resources: Resources) -> Amount:
    return Amount(float(resources.cpus_per_worker), resources.gpus_per_worker, float(resources.memory_per_worker or 0))


class Body(Protocol):
    """What a tenant is made of."""

    def close(self) -> None:
        """Stop it, and return when its resources are free or soon will be."""
        ...


@dataclass(eq=False)
class Tenant:
    """A holder of ``amount``. ``body`` is None until whoever claimed it has started something there."""

    shape: Hashable
    amount: Amount
    body: Body | None = None
    idle_since: float | None = field(default=None)


class Ledger:
    """Claims and tenants. All methods may be called from any thread."""

    def __init__(self, total: Callable[[], Amount], clock: Callable[[], float]) -> None:
        self._total = total
        self._clock = clock
        self._tenants: list[Tenant] = []
        self._changed = threading.Condition()
        self._closed = False

    def claim(
        self, shapes: Sequence[Hashable], amount: Amount, count: int, likes: Callable[[Tenant], bool]
    ) -> list[Tenant]:
        """``count`` tenants of one of these shapes, idle ones first, among them those that ``likes``.

        New ones are of the first shape. Waits for room. A claim beyond the cluster's total is granted when
        nobody else holds anything: the cluster may grow.
        """
        while True:
            with self._changed:
                if self._closed:
                    raise Closed("the session is closed")
                victims = self._victims(shapes, amount, count)
                if victims is None:
                    return self._take(shapes, amount, count, likes)
                for victim in victims:
                    self._tenants.remove(victim)
                if not victims:
                    self._changed.wait(timeout=1.0)
            self._close(victims)

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
        """End the tenants that have been idle for ``age`` seconds."""
        with self._changed:
            now = self._clock()
            old = [t for t in self._tenants if t.idle_since is not None and now - t.idle_since >= age]
            for tenant in old:
                self._tenants.remove(tenant)
        self._close(old)

    def could_hold(self, amount: Amount) -> bool:
        """Whether the cluster as it is could hold so much, were it empty."""
        return amount.within(self._total())

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

    def _victims(self, shapes: Sequence[Hashable], amount: Amount, count: int) -> list[Tenant] | None:
        """Idle tenants to end, oldest first, for the claim to fit; [] to wait; None if it fits as things are."""
        idle = sorted((t for t in self._tenants if t.idle_since is not None), key=lambda t: t.idle_since or 0.0)
        kept = [t for t in idle if t.shape in shapes][-count:]
        if len(kept) == count:
            return None
        others = [t for t in idle if t not in kept]
        need, total = amount.times(count - len(kept)), self._total()
        for ended in range(len(others) + 1):
            stay = [t for t in self._tenants if t not in others[:ended]]
            if (sum_of(stay) + need).within(total):
                return others[:ended] or None
        alone = all(t.idle_since is not None for t in self._tenants)
        return (others or None) if alone else []

    def _take(
        self, shapes: Sequence[Hashable], amount: Amount, count: int, likes: Callable[[Tenant], bool]
    ) -> list[Tenant]:
        idle = [t for t in self._tenants if t.idle_since is not None and t.shape in shapes]
        taken = sorted(idle, key=likes, reverse=True)[:count]
        for tenant in taken:
            tenant.idle_since = None
        fresh = [Tenant(shapes[0], amount) for _ in range(count - len(taken))]
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


def sum_of(tenants: list[Tenant]) -> Amount:
    return sum((t.amount for t in tenants), Amount())
