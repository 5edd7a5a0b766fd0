"""What is known of external files, cached in the storage, so that a plan does not read large files again."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipeline.errors import RequestError
from pipeline.graph.surveys import KeptSurveys
from stages.atomic import replacing
from stages.checksum import file_sha256


@dataclass
class Digests:
    """sha256 of files by (path, size, mtime, inode), cached in ``file``; ``changed``: the cache has new entries. Beside
    that file stand ``surveys``, what was found in the data of tasks."""

    file: Path
    known: dict[str, str] = field(default_factory=dict)
    changed: bool = False

    @cached_property
    def surveys(self) -> KeptSurveys:
        """What was found in the data of tasks, by their content."""
        return KeptSurveys(self.file.parent / "surveys")

    @staticmethod
    def load(file: Path) -> "Digests":
        """The digests in ``file``; none if it does not exist. Raises RequestError."""
        return Digests(file, parse_cache(file.read_text("utf-8"), str(file)) if file.exists() else {})

    def sha256(self, path: Path) -> str:
        """The digest of a file's content, computed unless it is known."""
        stat = path.stat()
        name = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ino}"
        if name not in self.known:
            self.known[name] = file_sha256(path)
            self.changed = True
        return self.known[name]

    def save(self) -> None:
        """Write new entries to ``file``, and new surveys; not if the storage is not there or read-only, as these are
        only caches. Raises RequestError."""
        existing = self.file.parent if self.file.parent.exists() else self.file.parent.parent
        if not os.access(existing, os.W_OK):
            return
        self.surveys.save()
        if not self.changed:
            return
        with cache_errors(str(self.file), "written"):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.file) as draft:
                draft.write_text(json.dumps(self.known, indent=1, sort_keys=True) + "\n", "utf-8")
        self.changed = False


def parse_cache(text: str, where: str) -> dict[str, str]:
    """The JSON object in ``text``. Raises RequestError, which names the file ``where``."""
    try:
        known: dict[str, str] = json.loads(text)
    except ValueError as error:
        raise RequestError(f"{where}: this file is damaged ({error}); remove it, and it is written anew") from error
    return known


@contextmanager
def cache_errors(where: str, action: str) -> Iterator[None]:
    """Re-raise an OSError of the block as RequestError: ``where`` in the storage cannot be read or written."""
    try:
        yield
    except OSError as error:
        raise RequestError(
            f"storage: {where} cannot be {action} ({error.strerror or error}); give a storage of yours"
        ) from error
