"""SIGTERM stops a run as Ctrl-C does: leases are released, and finished work is kept."""

import signal
import threading


def interrupt_on_sigterm() -> None:
    """Make SIGTERM raise KeyboardInterrupt. To be called again after Ray has started, as Ray sets its own handler.

    Does nothing outside the main thread, which alone may set handlers.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_signum: int, _frame: object) -> None:
    raise KeyboardInterrupt
