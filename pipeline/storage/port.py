"""The interface of a storage, which ``directory.py`` and ``bucket.py`` implement."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.resources import Mirror

LEASE = ".lease.json"
WORK = ".work"

Files = Mapping[str, tuple[int, str]]
"""Files of an artifact: path -> (bytes, sha256)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a storage. ``modified`` is in seconds since 1970. Two names of one ``identity`` are links to the same
    bytes, which take space until the last of ``links`` is removed. ``version`` changes whenever the content does; ''
    where the storage has none."""

    size: int
    modified: float
    identity: Hashable
    links: int = 1
    version: str = ""


class UnreadableDocument(OSError):
    """What stands in the place of a document cannot be read as one: a folder, or a file whose permissions forbid it.
    The storage itself answers."""


class Storage(ABC):
    """A storage. Its methods may be called from any thread, and raise ``OSError`` where the storage does not answer.

    ``local`` is a directory of this machine with the layout of the storage: the storage itself where ``shared`` is
    true, so that all machines of a cluster see it there; otherwise a cache of it. A storage can be pickled, and names
    the same storage on another machine.
    """

    url: str
    local: Path
    shared: bool

    def __str__(self) -> str:
        return self.url

    # --- documents ---

    @abstractmethod
    def read(self, name: str) -> str | None:
        """The text of the document ``name``; None if there is none. Raises ``UnreadableDocument``."""

    def read_many(self, names: Sequence[str]) -> Mapping[str, str]:
        """The texts of those documents that exist and can be read, by name."""
        texts: dict[str, str] = {}
        for name in names:
            with suppress(UnreadableDocument):
                text = self.read(name)
                if text is not None:
                    texts[name] = text
        return texts

    @abstractmethod
    def write(self, name: str, text: str, *, durable: bool = False) -> None:
        """Write ``text`` as the document ``name``, whole or not at all, in place of any former one. Without
        ``durable``, a power failure of the storage's machine may leave it empty."""

    @abstractmethod
    def create(self, name: str, text: str) -> bool:
        """Write ``text`` durably as the document ``name`` unless one exists. Returns whether this call did: of several
        calls at the same time, one does. Texts that name their writer and the time make a repeated request after a lost
        answer harmless."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove the document ``name``, durably, if it exists; in a directory, also a folder in its place."""

    @abstractmethod
    def drop(self, folder: str) -> None:
        """Remove all files below ``folder``, if there are any."""

    @abstractmethod
    def entries(self, folder: str) -> list[str]:
        """The names of the files and folders directly in ``folder``, sorted; [] where it does not exist."""

    @abstractmethod
    def walk(self, folder: str = "") -> dict[str, Entry]:
        """All files below ``folder``, by their names from the storage's root."""

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
        """The full path or URL of ``name``, for messages and other tools."""

    # --- files of artifacts ---

    @abstractmethod
    def publish(self, out: Path, folder: str, files: Files) -> None:
        """Store these files of the work directory ``out`` below ``folder``, which is empty yet, durably."""

    @abstractmethod
    def put(self, source: Path, name: str) -> None:
        """Store a copy of a file of this machine as ``name``."""

    @abstractmethod
    def fetch(self, folder: str, files: Files, user: str = "") -> Path:
        """A directory of this machine with the files of an artifact below ``folder``.

        It is kept until ``release(user)``, or until this process ends. Raises ``OSError`` where a file is missing or
        does not have its checksum.
        """

    @abstractmethod
    def inspect(self, folder: str, files: Files) -> Path:
        """A directory of this machine with the files of an artifact as they are in the storage now, sound or damaged,
        and without those that are missing."""

    @abstractmethod
    def release(self, user: str) -> None:
        """Let what ``user`` has fetched be removed from this machine when room is needed."""

    # --- work that is not committed ---

    @abstractmethod
    def adopt(self, old: str, new: str) -> None:
        """Take over into the folder ``new`` the files that the attempt in the folder ``old`` has finished, then remove
        ``old``. Of an attempt without a lease nothing is taken over: its files are from a writer that came too late."""

    @abstractmethod
    def mirror(self, out: str, inputs: Mapping[str, Files]) -> Mirror | None:
        """What synchronises the work folder ``out`` between machines, and fetches the ``inputs`` (folder -> files, as
        for ``fetch``) to each. None where all machines see the storage itself."""

    @abstractmethod
    def check(self) -> None:
        """Raises ``RequestError`` unless the storage can be written and honours ``create``."""

    def snapshot(self) -> "Storage":
        """This storage as it is now, for reading many of its documents."""
        return self
