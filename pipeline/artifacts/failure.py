"""Notes of nodes that failed when they were last run, so that a later report can tell them from nodes that never ran.
If the artifact exists, a note is ignored."""

from pipeline.storage import Storage, UnreadableDocument

FAILED = ".failed"


def note_failure(storage: Storage, key: str, message: str) -> None:
    """Write a note, with the error's message, that the node of ``key`` failed."""
    storage.write(note_name(key), message + "\n")


def forget_failure(storage: Storage, key: str) -> None:
    """Remove the note, if there is one."""
    storage.remove(note_name(key))


def has_failed(storage: Storage, key: str) -> bool:
    """Whether there is a note that the node failed. A damaged note is one, too."""
    try:
        return storage.read(note_name(key)) is not None
    except UnreadableDocument:
        return True


def note_name(key: str) -> str:
    """The name of a key's note in the storage."""
    return f"{FAILED}/{key}"
