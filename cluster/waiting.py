"""Two kinds of waiting: of a closing session for calls to Ray, and of work for room in a busy cluster."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster.amount import Demand
from cluster.ledger import Ledger
from cluster.resources import Closed, Listener

EVICT_AFTER = 5.0
"""Seconds until idle tenants are ended although the totals leave room: perhaps no single node has it."""
LOG_AFTER = 15.0
"""Seconds until a wait for room that other work holds is logged for the first time; then after 30, 60 and so on."""
PENDING = 600.0
"""Seconds that a request beyond the present cluster waits for the cluster to grow, unless the recipe names a limit."""


class RayCalls:
    """Counts the threads that are in a call to Ray, since Ray must not be shut down meanwhile."""

    def __init__(self) -> None:
        self._running = 0
        self._open = True
        self._changed = threading.Condition()

    @contextmanager
    def running(self) -> Iterator[None]:
        """The context of each short sequence of calls to Ray. Raises ``Closed`` once the session is being closed."""
        with self._changed:
            if not self._open:
                raise Closed("the session is closed")
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def check_open(self) -> None:
        """Raises ``Closed`` once the session is being closed."""
        with self.running():
            pass

    def close(self) -> bool:
        """Refuse further calls. Returns False if that was so before."""
        with self._changed:
            was_open, self._open = self._open, False
            return was_open

    def wait_until_none(self, seconds: float) -> bool:
        """Wait, at most so many seconds, until no call is running. Returns whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._running == 0, timeout=seconds)


class RoomWait:
    """One wait for processes to be placed: it ends idle tenants, logs the wait, and fails where there is no room."""

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
        self._log_at = LOG_AFTER
        self._noted = False

    def tick(self, alone: bool = True) -> None:
        """Called about once a second while the room is missing. Raises ``TimeoutError`` when the cluster did not grow
        in time, if ``alone``: a map some of whose workers run goes on with those."""
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
        if beyond and not self._noted:
            self._noted = True
            self._listener.note(
                f"waiting {self._pending:.0f} s (limits.pending) for {self._demand}: the cluster has "
                f"{self._ledger.nodes()} now"
            )
        elif waited >= self._log_at:
            self._log_at *= 2
            self._listener.log(f"waiting for {self._demand} since {waited:.0f} s: in use, or more than there is")
