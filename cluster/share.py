"""How many of its workers a running stage may use at the moment.

The runner lowers the number to make room for a more urgent stage, down to 0, and raises it again later. A map follows
between two items: it hands out no further item to a worker that it has to give up. A training (``On.train``) cannot
give up workers, and waits until it may use all of them.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class WorkerShare:
    """The workers that one stage may use (``granted``) and those that its map holds. Methods may be called from any
    thread."""

    def __init__(self, workers: int, granted: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """``workers``: the number in full. ``granted``: the number at the start, by default all."""
        self.workers = workers
        self._granted = workers if granted is None else granted
        self._held = 0
        self._mapping = False
        self._clock = clock
        self._since = clock()
        self._seconds = 0.0
        self._full_seconds = 0.0
        self._changed = threading.Condition()

    @property
    def granted(self) -> int:
        """The number of workers that the stage may use."""
        return self._granted

    @property
    def taken(self) -> int:
        """The number of workers whose resources the stage takes: those granted, and those that still end an item."""
        return max(self._granted, self._held)

    @property
    def adjustable(self) -> bool:
        """Whether the stage is in a map, so that it follows when fewer workers are granted."""
        return self._mapping

    def grant(self, workers: int) -> None:
        """Set the number of workers that the stage may use from now on."""
        with self._changed:
            self._count_time()
            self._granted = workers
            self._changed.notify_all()

    def seconds(self) -> float:
        """Seconds since the stage began, without those in which it was in a map and had no worker."""
        with self._changed:
            self._count_time()
            return self._seconds

    def full_seconds(self) -> float:
        """About the seconds that the stage would have taken so far with all of its workers: those in a map count by the
        part of the workers that was taken, those outside, in which it needs none, in full."""
        with self._changed:
            self._count_time()
            return self._full_seconds

    # --- for maps and trainings ---

    @contextmanager
    def mapping(self) -> Iterator[None]:
        """The context of a map, in which the stage follows the grant."""
        with self._changed:
            self._count_time()
            self._mapping = True
        try:
            yield
        finally:
            with self._changed:
                self._count_time()
                self._mapping, self._held = False, 0

    def take(self, most: int) -> int:
        """Begin to hold as many more workers as are granted, ``most`` at most. Returns the number."""
        with self._changed:
            more = max(0, min(most, self._granted - self._held))
            self._held += more
            return more

    def give_back(self, workers: int = 1) -> None:
        """Hold so many workers less."""
        with self._changed:
            self._count_time()
            self._held -= workers

    def give_up_one(self) -> bool:
        """Hold one worker less if more are held than granted. Returns whether that was so."""
        with self._changed:
            if self._held <= self._granted:
                return False
            self._count_time()
            self._held -= 1
            return True

    def wait_for(self, workers: int, seconds: float) -> bool:
        """Wait, at most so many seconds, until at least ``workers`` are granted. Returns whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: self._granted >= workers, timeout=seconds)

    def _count_time(self) -> None:
        now = self._clock()
        passed, self._since = now - self._since, now
        if not self._mapping:
            self._seconds += passed
            self._full_seconds += passed
        elif self.taken:
            self._seconds += passed
            self._full_seconds += passed * self.taken / self.workers
