"""Checksums of files, and those that a stage knows of what it has written, so that no file is read again for them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from stages.atomic import replacing

KNOWN = Path("scratch") / "checksums.json"


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def keep_checksums(out: Path, known: Mapping[str, str]) -> None:
    """Keep the sha256 of files of ``out``, by name, for the record of the artifact. They hold for as long as a file's
    size and time stay what they are now."""
    entries = {name: [*_size_and_time(out / name), digest] for name, digest in known.items()}
    (out / KNOWN).parent.mkdir(exist_ok=True)
    with replacing(out / KNOWN, volatile=True) as draft:
        draft.write_text(json.dumps(entries), "utf-8")


def kept_checksums(out: Path) -> dict[str, str]:
    """Name -> sha256 of the files whose checksums were kept, and that have not been written since; {} where none
    were."""
    try:
        entries = json.loads((out / KNOWN).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {
        name: digest
        for name, (*size_and_time, digest) in entries.items()
        if (out / name).exists() and _size_and_time(out / name) == size_and_time
    }


def _size_and_time(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
