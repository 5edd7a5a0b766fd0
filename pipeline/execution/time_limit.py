"""The time that a run may take (``limits.hours``): at its end the run is stopped as by Ctrl-C."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


class TimeLimitReached(KeyboardInterrupt):
    """The time of a run is over. It takes the way of a KeyboardInterrupt: stages end, leases are released, and finished
    work is kept."""


@contextmanager
def interrupted_after(seconds: float | None) -> Iterator[None]:
    """Raise ``TimeLimitReached`` in the block after so many seconds, whatever it is doing then; None: never. Outside
    the main thread, to which alone signals are delivered, nothing is raised."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    began = time.monotonic()
    handler = signal.signal(signal.SIGALRM, _raise)
    before, interval = signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))  # 0 would mean never
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if before:  # an alarm of the program that this runs in
            signal.setitimer(signal.ITIMER_REAL, max(before - (time.monotonic() - began), 1e-6), interval)


def _raise(_signum: int, _frame: object) -> NoReturn:
    raise TimeLimitReached
