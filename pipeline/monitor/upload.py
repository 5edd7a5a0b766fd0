"""Upload of a run's HTML page, status and logs to a storage that is not on this machine."""

import contextlib
from collections.abc import Iterator

from cluster.mirroring import mirrored
from cluster.resources import Mirror
from pipeline.storage import Storage

UPLOAD_EVERY = 15.0
"""Seconds between two uploads of what is new."""


@contextlib.contextmanager
def uploading(storage: Storage, *folders: str) -> Iterator[None]:
    """Upload the files below ``folders`` every ``UPLOAD_EVERY`` seconds and at the end. Errors are ignored: a storage
    that does not answer must not stop the run."""
    with contextlib.ExitStack() as stack:
        for folder in folders:
            mirror = storage.mirror(folder, {})
            if mirror is not None:
                stack.enter_context(mirrored(BestEffortMirror(mirror), UPLOAD_EVERY))
        yield


class BestEffortMirror:
    """A mirror that ignores errors of uploads."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    @property
    def here(self) -> str:
        return self._mirror.here

    def pull(self) -> None:
        """Nothing to download: only this run writes to these folders."""

    def push(self) -> None:
        with contextlib.suppress(OSError):
            self._mirror.push()

    def close(self) -> None:
        self._mirror.close()
