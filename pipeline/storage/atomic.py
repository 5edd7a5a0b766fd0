"""Files that are there whole or not at all: written beside their place, and then put there."""

import os
from pathlib import Path


def draft_of(path: Path) -> Path:
    """A name beside ``path`` that nobody else has."""
    return path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")


def sync(path: Path) -> None:
    """Have its bytes on the disk, so that they outlast a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
