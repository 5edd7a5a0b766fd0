"""What a run says of itself, sent to a storage that is not on this machine: its page, its status, its logs."""

import contextlib
from collections.abc import Iterator

from cluster.mirroring import mirrored
from cluster.resources import Mirror
from pipeline.storage import Storage

EVERY = 15.0
"""Seconds between two looks for what is new."""


@contextlib.contextmanager
def uploaded(storage: Storage, *folders: str) -> Iterator[None]:
    """Send what lies below ``folders``, now and then and at the end. A storage that does not answer stops no run."""
    with contextlib.ExitStack() as stack:
        for folder in folders:
            mirror = storage.mirror(folder, {})
            if mirror is not None:
                stack.enter_context(mirrored(BestEffortMirror(mirror), EVERY))
        yield


class BestEffortMirror:
    """A mirror whose errors are nobody's trouble."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    @property
    def here(self) -> str:
        return self._mirror.here

    def pull(self) -> None:
        """Nobody else writes there."""

    def push(self) -> None:
        with contextlib.suppress(OSError):
            self._mirror.push()

    def close(self) -> None:
        self._mirror.close()
