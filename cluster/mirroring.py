"""The files of a stage, brought to where it works and taken from there, around its own code."""

import contextlib
import threading
from collections.abc import Iterator

from cluster.resources import Mirror

PUSH_EVERY = 10.0
"""Seconds between two pushes while a loop runs: what a machine that is lost takes with it of checkpoints."""


@contextlib.contextmanager
def mirrored(mirror: Mirror | None, every: float = PUSH_EVERY) -> Iterator[None]:
    """Have what others wrote before, and ``pushed`` what is written here."""
    if mirror is None:
        yield
        return
    try:
        mirror.pull()
        with pushed(mirror, every):
            yield
    finally:
        mirror.close()


@contextlib.contextmanager
def pushed(mirror: Mirror | None, every: float = PUSH_EVERY) -> Iterator[None]:
    """Let others have what is written here, now and then and at the end, also where it fails. Raises what the last push
    raises, unless the work itself has failed."""
    if mirror is None:
        yield
        return
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(every):
            with contextlib.suppress(OSError):  # the next one, or the last, may do
                mirror.push()

    thread = threading.Thread(target=keep, daemon=True, name="mirror")
    thread.start()
    try:
        yield
    except BaseException:
        ended.set()
        thread.join()
        with contextlib.suppress(OSError):
            mirror.push()
        raise
    else:
        ended.set()
        thread.join()
        mirror.push()
