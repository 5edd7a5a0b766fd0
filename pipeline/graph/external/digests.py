"""What is known of external files, cached in the storage, so that a plan does not read large files again."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipeline.errors import RequestError
from pipeline.graph.surveys import KeptSurveys
from stages.atomic import replacing
from stages.checksum import file_sha256
from stages.files.text_size import TextSize, text_size
from stages.models.weights_header import token_count


@dataclass
class Digests:
    """sha256 of files by (path, size, mtime, inode), and sizes of text files and tokenizers by their sha256, cached in
    ``file``; ``changed``: the cache has new entries. Beside that file stand ``surveys``, what was found in the data of
    tasks."""

    file: Path
    known: dict[str, str] = field(default_factory=dict)
    changed: bool = False

    @cached_property
    def surveys(self) -> KeptSurveys:
        """What was found in the data of tasks, by their content."""
        return KeptSurveys(self.file.parent / "surveys")

    @staticmethod
    def load(file: Path) -> "Digests":
        """The digests in ``file``; none if it does not exist or is damaged: it is a cache, and is written anew."""
        try:
            known = parse_texts(file.read_text("utf-8"))
        except (OSError, ValueError):
            return Digests(file, {}, changed=file.exists())
        return Digests(file, known)

    def sha256(self, path: Path) -> str:
        """The digest of a file's content, computed unless it is known."""
        stat = path.stat()
        name = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ino}"
        if name not in self.known:
            self.known[name] = file_sha256(path)
            self.changed = True
        return self.known[name]

    def text_size(self, path: Path) -> TextSize:
        """Lines and bytes of a text file, after decompression; counted unless they are known for its content.
        ValueError for a damaged file."""
        name = f"text|{self.sha256(path)}"
        if name not in self.known:
            found = text_size(path)
            self.known[name] = f"{found.lines} {found.bytes}"
            self.changed = True
        lines, size = map(int, self.known[name].split())
        return TextSize(lines, size)

    def token_count(self, path: Path) -> int | None:
        """``weights_header.token_count`` of a ``tokenizer.json``; read unless it is known for its content. ValueError
        for a damaged file."""
        name = f"tokens|{self.sha256(path)}"
        if name not in self.known:
            self.known[name] = str(token_count(path) or "")
            self.changed = True
        return int(self.known[name]) if self.known[name] else None

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
            if self.file.is_dir():
                shutil.rmtree(self.file)
            with replacing(self.file, volatile=True) as draft:
                draft.write_text(json.dumps(self.known, indent=1, sort_keys=True) + "\n", "utf-8")
        self.changed = False


def parse_texts(text: str) -> dict[str, str]:
    """The JSON object of texts in ``text``. Raises ValueError."""
    known = json.loads(text)
    if not isinstance(known, dict) or not all(isinstance(value, str) for value in known.values()):
        raise ValueError("it is not an object of texts")
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
