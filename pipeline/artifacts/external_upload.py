"""What comes from outside, for machines that do not have it: put into the storage once, under its identity.

A model of the hub lies in the cache of the machine that fetched it, a packaged one where packages lie there. On a place
of several machines both are read from the storage instead.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.graph.fingerprint import canonical, sha256
from pipeline.graph.nodes import ExternalInput
from pipeline.storage import Files, Storage
from pipeline.storage.checksum import checksum

OUTSIDE = ".outside"
TOKENIZER = "tokenizer"
MANIFEST = "manifest.json"
UNREAD = (".bin", ".h5", ".msgpack", ".onnx", ".ot", ".pt", ".pth")
"""Endings of what may lie beside a model's safetensors and is never loaded."""


def to_ship(given: ExternalInput, storage: Storage) -> bool:
    """Whether other machines may lack it: of a storage that all of them see, data files lie on the same file system."""
    if storage.shared and (given.path.is_file() or given.path.is_relative_to(storage.local)):
        return False
    return given.path.exists()


def ship(given: ExternalInput, name: str, storage: Storage) -> tuple[str, Files]:
    """The folder of the storage that holds the files of input ``name``, and what they are. Puts there what is not there
    yet."""
    folder = f"{OUTSIDE}/{sha256(canonical([name == TOKENIZER, given.identity]))}"
    text = storage.read(f"{folder}/{MANIFEST}")
    if text is None:
        found = dict(_files(given.path, (*UNREAD, ".safetensors") if name == TOKENIZER else UNREAD))
        for path, source in found.items():
            storage.put(source, f"{folder}/{path}")
        told = {path: (source.stat().st_size, checksum(source)) for path, source in found.items()}
        text = json.dumps(told, indent=1, sort_keys=True)
        storage.create(f"{folder}/{MANIFEST}", text)
    return folder, {path: (size, digest) for path, (size, digest) in json.loads(text).items()}


def place_in(folder: str, given: ExternalInput, storage: Storage) -> Path:
    """Where on any machine the input lies once it is fetched."""
    home = storage.local / folder
    return home if given.path.is_dir() else home / given.path.name


def _files(path: Path, unread: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Path below the input -> file. Links are followed: a hub's cache is made of them."""
    if not path.is_dir():
        yield path.name, path
        return
    for folder, names, files in os.walk(path, followlinks=True):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and not name.endswith(unread):
                yield (Path(folder) / name).relative_to(path).as_posix(), Path(folder) / name
