"""Files that are there whole or not at all, after a power failure too.

A file is written as a draft beside its place, which then takes its name. A file system may write a name to the disk
before the content that it stands for, so the content is waited for first: a file that has its final name is whole.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, durable: bool = False, volatile: bool = False) -> Iterator[Path]:
    """A draft beside ``path`` to write; it takes the place of ``path`` when the block ends without an error, and is
    removed otherwise.

    The folder of ``path`` must exist. No two drafts have the same name, so that processes and threads which write the
    same file do not meet in one draft: the last to finish wins. After a power failure, ``path`` is the former file or
    the new one, whole. ``durable`` waits for the name as well, so that it is the new one. ``volatile`` waits for
    nothing: for files that are not read after a restart of the machine, or whose readers notice damage and do without.
    """
    draft = draft_of(path)
    try:
        yield draft
        if not volatile:
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


def sync_below(folder: Path) -> None:
    """Wait until all files and names below a folder are on the disk."""
    for home, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(home, name))
        sync(Path(home))


def make_folder(folder: Path) -> None:
    """Create a folder and those above it that do not exist, and wait until the names of all that were created are on
    the disk."""
    created = []
    for level in (folder, *folder.parents):
        if level.is_dir():
            break
        created.append(level)
    folder.mkdir(parents=True, exist_ok=True)
    for level in reversed(created):
        sync(level.parent)


def sync_folders(folders: Iterable[Path], root: Path) -> None:
    """Wait until the names in these folders below ``root``, in those between, and in ``root`` are on the disk: each
    folder once, the deepest first."""
    found = {level for folder in folders for level in (folder, *folder.parents) if level.is_relative_to(root)}
    for level in sorted(found, key=lambda one: -len(one.parts)):
        sync(level)
