"""A snapshot: the program's own packages, and what goes with them, as they are now. It is what a cluster gets."""

import hashlib
import io
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from pipeline.execution.job_env import snapshot

PACKAGES = ("cluster", "pipeline", "stages")
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in an archive: the earliest that the format knows."""


@dataclass(frozen=True)
class Snapshot:
    """Files by name, such as ``pipeline/cli/main.py``."""

    files: Mapping[str, bytes]

    @cached_property
    def sha256(self) -> str:
        """Over names and bytes, so that equal files have equal digests, wherever and whenever they are packed."""
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            for part in (name.encode(), content):
                digest.update(len(part).to_bytes(8, "big") + part)
        return digest.hexdigest()

    def archive(self) -> bytes:
        """A zip file: the same bytes for the same files."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in sorted(self.files.items()):
                entry = zipfile.ZipInfo(name, EPOCH)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
        return stream.getvalue()

    def lay(self, folder: Path) -> None:
        """Write the files below ``folder``."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def take(more: Mapping[str, bytes] | None = None) -> Snapshot:
    """The packages that run here, and ``more``. What was compiled or is hidden stays behind."""
    files = {name: path.read_bytes() for package in PACKAGES for name, path in _sources(package)}
    return Snapshot({**files, **(more or {})})


@contextmanager
def shipped(address: str | None) -> Iterator[tuple[Path, ...]]:
    """Copies of the packages, for workers of a Ray that others started. None for a Ray of our own, whose workers
    import what we do, nor for a run that was submitted, whose workers have its snapshot."""
    if address is None or snapshot():
        yield ()
        return
    with tempfile.TemporaryDirectory(prefix="stillhouse-packages-") as folder:
        take().lay(Path(folder))
        yield tuple(Path(folder) / package for package in PACKAGES)


def _sources(package: str) -> Iterator[tuple[str, Path]]:
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    root = Path(spec.origin).parent
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root.parent)
        left = path.suffix == ".pyc" or any(part.startswith(".") for part in name.parts)
        if path.is_file() and not left:
            yield name.as_posix(), path
