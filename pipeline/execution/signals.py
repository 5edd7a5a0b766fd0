"""SIGTERM stops a run as Ctrl-C does: cleanly, with everything kept that is finished."""

import signal
import threading


def heed_sigterm() -> None:
    """Let SIGTERM raise KeyboardInterrupt. Ray puts a handler of its own in place when it starts: call this after, too.

    Only the main thread may set handlers; elsewhere whoever runs us decides.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_signum: int, _frame: object) -> None:
    raise KeyboardInterrupt
