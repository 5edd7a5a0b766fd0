"""Files that are there whole or not at all: written as a draft beside their place, which then takes their name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A draft beside ``path`` to write; it takes the place of ``path`` when the block ends without an error, and is
    removed otherwise.

    The folder of ``path`` must exist. No two drafts have the same name, so that processes and threads which write the
    same file do not meet in one draft: the last to finish wins. ``durable`` waits until both the content and the name
    are on the disk, so that they outlast a power failure.
    """
    draft = draft_of(path)
    try:
        yield draft
        if durable:
            sync(draft)
        os.replace(draft, path)
        if durable:
            sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def draft_of(path: Path) -> Path:
    """A name beside ``path`` that no other draft has: hidden, and ending in ``.tmp``, which folder readers skip."""
    return path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
