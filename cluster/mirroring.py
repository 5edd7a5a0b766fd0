"""Copying a stage's files to and from the machine where it runs, around the stage's own code."""

import contextlib
import threading
from collections.abc import Iterator

from cluster.resources import Mirror

PUSH_EVERY = 10.0
"""Seconds between two pushes while a loop runs: the most of its checkpoints that a lost machine takes with it."""


@contextlib.contextmanager
def mirrored(mirror: Mirror | None, every: float = PUSH_EVERY) -> Iterator[None]:
    """Pull what other machines wrote, then run the body within ``pushed``. The mirror is closed at the end."""
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
    """Push what the body writes every ``every`` seconds and at the end, also where the body fails. Raises what the last
    push raises, unless the body itself has failed."""
    if mirror is None:
        yield
        return
    ended = threading.Event()

    def push_regularly() -> None:
        while not ended.wait(every):
            with contextlib.suppress(OSError):  # a later push may succeed
                mirror.push()

    thread = threading.Thread(target=push_regularly, daemon=True, name="mirror")
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
