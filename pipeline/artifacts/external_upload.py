"""Upload of external inputs to the storage, once under their identity, for machines that do not have them.

A model of the hub is in the cache of the machine that downloaded it, a packaged one among that machine's packages. On
several machines, stages read both from the storage instead.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.graph.fingerprint import canonical, sha256
from pipeline.graph.nodes import ExternalInput
from pipeline.storage import Files, Storage, UnreadableDocument
from pipeline.storage.remote_files import is_copy
from stages.checksum import file_sha256

UPLOADS = ".outside"
TOKENIZER = "tokenizer"
MANIFEST = "manifest.json"
UNUSED_SUFFIXES = (".bin", ".h5", ".msgpack", ".onnx", ".ot", ".pt", ".pth")
"""Suffixes of files that may lie beside a model's safetensors and are never loaded."""


def needs_upload(given: ExternalInput, storage: Storage) -> bool:
    """Whether an input must be uploaded for other machines. Not so, if the storage is a directory that they share, for
    files and for what is inside it: data files are expected on the shared file system too, but for copies of those in a
    bucket."""
    if is_copy(given.path):
        return True
    if storage.shared and (given.path.is_file() or given.path.is_relative_to(storage.local)):
        return False
    return given.path.exists()


def upload_input(given: ExternalInput, name: str, storage: Storage) -> tuple[str, Files]:
    """Upload the files of input ``name`` to the storage unless they are there. Returns their folder in the storage, and
    the files with their sizes and checksums."""
    folder = f"{UPLOADS}/{sha256(canonical([name == TOKENIZER, given.identity]))}"
    known = _manifest(storage, f"{folder}/{MANIFEST}")
    if known is None:
        files = dict(_files(given.path, (*UNUSED_SUFFIXES, ".safetensors") if name == TOKENIZER else UNUSED_SUFFIXES))
        for path, source in files.items():
            storage.put(source, f"{folder}/{path}")
        known = {path: (source.stat().st_size, file_sha256(source)) for path, source in files.items()}
        storage.write(f"{folder}/{MANIFEST}", json.dumps(known, indent=1, sort_keys=True), durable=True)
    return folder, known


def _manifest(storage: Storage, name: str) -> dict[str, tuple[int, str]] | None:
    """The files of an uploaded input; None if they are not uploaded yet, or if the manifest is damaged."""
    try:
        document = json.loads(storage.read(name) or "")
        return {path: (int(size), str(digest)) for path, (size, digest) in document.items()} or None
    except (UnreadableDocument, ValueError, TypeError, AttributeError):
        return None


def uploaded_path(folder: str, given: ExternalInput, storage: Storage) -> Path:
    """The path of an uploaded input on any machine that has downloaded ``folder``."""
    home = storage.local / folder
    return home if given.path.is_dir() else home / given.path.name


def _files(path: Path, unread: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """(path relative to the input, file) for each of its files. Links are followed: the hub's cache is made of them."""
    if not path.is_dir():
        yield path.name, path
        return
    for folder, names, files in os.walk(path, followlinks=True):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and not name.endswith(unread):
                yield (Path(folder) / name).relative_to(path).as_posix(), Path(folder) / name
