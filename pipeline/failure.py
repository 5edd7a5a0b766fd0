"""What failed when it was last tried, noted beside the artifacts, so that a later report can tell it from what
was never tried. An artifact that is there outweighs its note."""

from pathlib import Path


def note_failure(storage: Path, key: str, message: str) -> None:
    path = _note(storage, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(message + "\n", "utf-8")


def forget_failure(storage: Path, key: str) -> None:
    _note(storage, key).unlink(missing_ok=True)


def failed(storage: Path, key: str) -> bool:
    return _note(storage, key).exists()


def noted(storage: Path) -> list[Path]:
    """The notes that there are. Each has the key for its name."""
    folder = storage / ".failed"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _note(storage: Path, key: str) -> Path:
    return storage / ".failed" / key
