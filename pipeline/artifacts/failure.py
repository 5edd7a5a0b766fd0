"""What failed when it was last tried, noted beside the artifacts, so that a later report can tell it from what
was never tried. An artifact that is there outweighs its note."""

from pipeline.storage import Storage

FAILED = ".failed"


def note_failure(storage: Storage, key: str, message: str) -> None:
    storage.write(note_of(key), message + "\n")


def forget_failure(storage: Storage, key: str) -> None:
    storage.remove(note_of(key))


def failed(storage: Storage, key: str) -> bool:
    return storage.read(note_of(key)) is not None


def note_of(key: str) -> str:
    return f"{FAILED}/{key}"
