"""Calls that a closing session must wait for, and waiting for room in a busy cluster."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster.ledger import Amount, Ledger
from cluster.resources import Closed, Listener

EVICT_AFTER = 5.0
"""Seconds until idle tenants go, though the totals say there is room: no single node may have it."""
GIVE_UP_AFTER = 600.0
"""Seconds that a request beyond the present cluster waits for the cluster to grow."""


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
        amount: Amount,
        count: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._listener = listener
        self._need = amount.times(count)
        self._what = f"{count} x {amount.cpus:g} CPUs, {amount.gpus:g} GPUs"
        self._clock = clock
        self._start = clock()
        self._evict_at = EVICT_AFTER
        self._speak_at = 15.0

    def tick(self) -> None:
        """Another second has passed without room. Raises ``TimeoutError`` when there will be none."""
        waited = self._clock() - self._start
        if waited >= self._evict_at:
            self._evict_at = float("inf")
            self._ledger.expire(0.0)
        if waited >= self._speak_at:
            self._speak_at *= 2
            self._listener.log(f"waiting for {self._what} since {waited:.0f} s: in use, or more than there is")
        if waited >= GIVE_UP_AFTER and not self._ledger.could_hold(self._need):
            raise TimeoutError(
                f"resources: {self._what} did not come free in {waited:.0f} s and exceed the present cluster; "
                "ask for less, or add nodes"
            )
