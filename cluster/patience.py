"""Calls that a closing session must wait for, and waiting for room in a busy cluster."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster.amount import Demand
from cluster.ledger import Ledger
from cluster.resources import Closed, Listener

EVICT_AFTER = 5.0
"""Seconds until idle tenants go, though the totals say there is room: no single node may have it."""
SPEAK_AFTER = 15.0
"""Seconds until a wait for room that others hold is told of; then at 30, 60 and so on."""
PENDING = 600.0
"""Seconds that a request beyond the present cluster waits for the cluster to grow, where nobody says how long."""


class Gate:
    """Counts threads that are inside Ray. Ray must not be shut down under them."""

    def __init__(self) -> None:
        self._inside = 0
        self._open = True
        self._changed = threading.Condition()

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Around each short stretch of calls to Ray; raises ``Closed`` once the session closes."""
        with self._changed:
            if not self._open:
                raise Closed("the session is closed")
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def close(self) -> bool:
        """Let nobody in any more. False if it was closed already."""
        with self._changed:
            was_open, self._open = self._open, False
            return was_open

    def wait_until_empty(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._inside == 0, timeout=seconds)


class Patience:
    """Waiting for processes to get their room: makes room, says so, and gives up where there is none."""

    def __init__(
        self,
        ledger: Ledger,
        listener: Listener,
        demand: Demand,
        pending: float = PENDING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``pending``: seconds that a demand beyond the present nodes waits for more of them."""
        self._ledger = ledger
        self._listener = listener
        self._demand = demand
        self._pending = pending
        self._clock = clock
        self._start = clock()
        self._evict_at = EVICT_AFTER
        self._speak_at = SPEAK_AFTER
        self._told = False

    def tick(self, alone: bool = True) -> None:
        """Another second has passed without room. Raises ``TimeoutError`` when there will be none, if ``alone``: who
        has some of it at work goes on with that."""
        waited = self._clock() - self._start
        if waited >= self._evict_at:
            self._evict_at = float("inf")
            self._ledger.expire(0.0)
        beyond = not self._ledger.could_hold(self._demand)
        if beyond and alone and waited >= self._pending:
            raise TimeoutError(
                f"resources: {self._demand} did not come within {waited:.0f} s (limits.pending), the cluster has "
                f"{self._ledger.nodes()}; ask for less, or add nodes"
            )
        if beyond and not self._told:
            self._told = True
            self._listener.note(
                f"waiting {self._pending:.0f} s (limits.pending) for {self._demand}: the cluster has "
                f"{self._ledger.nodes()} now"
            )
        elif waited >= self._speak_at:
            self._speak_at *= 2
            self._listener.log(f"waiting for {self._demand} since {waited:.0f} s: in use, or more than there is")
