"""Snapshots of this program's packages, and files that go with them: what is sent to a cluster."""

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from cluster.temporary import temporary_folder
from pipeline.execution.job_env import snapshot

PACKAGES = ("cluster", "pipeline", "stages")
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in an archive, so that equal files give equal archives: the earliest that zip can hold."""


@dataclass(frozen=True)
class Snapshot:
    """Files by name, such as ``pipeline/cli/main.py``, in memory."""

    files: Mapping[str, bytes]

    @cached_property
    def sha256(self) -> str:
        """Digest over names and contents: equal for equal files, whenever and wherever the snapshot is taken."""
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

    def write_to(self, folder: Path) -> None:
        """Write the files below ``folder``."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def take_snapshot(more: Mapping[str, bytes] | None = None) -> Snapshot:
    """The files of the packages as they are imported here, without compiled and hidden ones, and ``more``."""
    files = {name: path.read_bytes() for package in PACKAGES for name, path in _sources(package)}
    return Snapshot({**files, **(more or {})})


@contextmanager
def packages_for_workers(address: str | None) -> Iterator[tuple[Path, ...]]:
    """Folders with copies of the packages, for the workers of an existing Ray at ``address``. None if this process
    starts its own Ray, whose workers import from here, or is a submitted job, whose workers have its snapshot."""
    if address is None or snapshot():
        yield ()
        return
    with temporary_folder("packages") as folder:
        take_snapshot().write_to(folder)
        yield tuple(folder / package for package in PACKAGES)


def _sources(package: str) -> Iterator[tuple[str, Path]]:
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    root = Path(spec.origin).parent
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root.parent)
        skipped = path.suffix == ".pyc" or any(part.startswith(".") for part in name.parts)
        if path.is_file() and not skipped:
            yield name.as_posix(), path
