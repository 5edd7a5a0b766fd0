"""What the pipeline asks of a storage. ``directory`` and ``bucket`` answer."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.resources import Mirror

LEASE = ".lease.json"
WORK = ".work"

Files = Mapping[str, tuple[int, str]]
"""Files of an artifact: path -> bytes, sha256."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a storage. ``modified`` is in seconds since 1970. Two names of one ``identity`` are links to the same
    bytes, which go with the last of ``links``. ``version`` changes whenever the content does."""

    size: int
    modified: float
    identity: Hashable
    links: int = 1
    version: str = ""


class Storage(ABC):
    """A storage. Its methods may be called from any thread, and raise ``OSError`` where it does not answer.

    ``local`` is a directory of this machine that is laid out as the storage is: the storage itself, or a cache of it.
    ``shared`` says which: whether the machines of a cluster all see the storage there.
    A storage pickles, and means the same on another machine.
    """

    url: str
    local: Path
    shared: bool

    def __str__(self) -> str:
        return self.url

    # --- documents ---

    @abstractmethod
    def read(self, name: str) -> str | None:
        """The text under ``name``; None if there is none."""

    def read_many(self, names: Sequence[str]) -> Mapping[str, str]:
        """The texts of those that are there."""
        texts = {name: self.read(name) for name in names}
        return {name: text for name, text in texts.items() if text is not None}

    @abstractmethod
    def write(self, name: str, text: str) -> None:
        """Put ``text`` under ``name``, whole or not at all, whatever was there."""

    @abstractmethod
    def create(self, name: str, text: str) -> bool:
        """Put ``text`` under ``name`` unless something is there. Whether this call did: of two, one does. A text that
        says who writes it, and when, makes an answer that was lost on its way harmless."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Take away what is under ``name``, if anything."""

    @abstractmethod
    def drop(self, folder: str) -> None:
        """Take away all below ``folder``, if anything."""

    @abstractmethod
    def entries(self, folder: str) -> list[str]:
        """The names of what lies directly in ``folder``, files and folders, sorted; [] where it is not."""

    @abstractmethod
    def walk(self, folder: str = "") -> dict[str, Entry]:
        """All files below ``folder``: their names, from the storage's root."""

    def lacking(self, folder: str, files: Sequence[tuple[str, int]]) -> str:
        """The first of these files (path, bytes) that is not below ``folder`` in this size; '' when all are."""
        found = self.walk(folder)
        for path, size in files:
            entry = found.get(f"{folder}/{path}")
            if entry is None or entry.size != size:
                return path
        return ""

    @abstractmethod
    def where(self, name: str) -> str:
        """``name`` as a person would give it to another tool."""

    # --- files of artifacts ---

    @abstractmethod
    def publish(self, out: Path, folder: str, files: Files) -> None:
        """Put these files of the work directory ``out`` below ``folder``, durably. Nothing is there yet."""

    @abstractmethod
    def put(self, source: Path, name: str) -> None:
        """Put a copy of a file of this machine under ``name``."""

    @abstractmethod
    def fetch(self, folder: str, files: Files, user: str = "") -> Path:
        """A directory of this machine with the files of an artifact below ``folder``.

        It stays until ``user`` lets go, or this process ends. Raises ``OSError`` where a file is gone, or not what it
        should be.
        """

    @abstractmethod
    def inspect(self, folder: str, files: Files) -> Path:
        """A directory of this machine with the files of an artifact as they are in the storage now, sound or not. Those
        that are gone are not there."""

    @abstractmethod
    def let_go(self, user: str) -> None:
        """What ``user`` has fetched may go."""

    # --- work that is not committed ---

    @abstractmethod
    def adopt(self, old: str, new: str) -> None:
        """Take what the attempt in the folder ``old`` finished into that in ``new``, then remove ``old``. An attempt
        without a lease is removed only: what lies there came from a late writer."""

    @abstractmethod
    def mirror(self, out: str, inputs: Mapping[str, Files]) -> Mirror | None:
        """What keeps the work folder ``out`` alike on all machines, and brings the ``inputs`` (folder -> files, as for
        ``fetch``) to each. None where all machines see the storage anyway."""

    @abstractmethod
    def check(self) -> None:
        """Raises ``RequestError`` unless the storage can be written, and holds what this design relies on."""

    def glance(self) -> "Storage":
        """This storage as it is now, for reading a great deal of it at once."""
        return self
