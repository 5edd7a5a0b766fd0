"""CIFAR-10 and CIFAR-100 as they are distributed: pickles of Python in a folder, or in the archive (.tar.gz) that holds
it (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html)."""

import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from stages.images.rows import ImageRow, ImageSource
from stages.images.sources.array_pickle import read_array_pickle

SIDE = 32
LARGEST_FILE = 2**28
"""Bytes of the largest file that is read from an archive; the largest one of CIFAR has 155 MB."""

CifarSplit = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class CifarFiles:
    """The files of a version of CIFAR: its folder, the files of each split, the file with the names of the labels, and
    the fields of labels and names."""

    folder: str
    splits: Mapping[str, tuple[str, ...]]
    meta: str
    label: str
    names: str


CIFAR = (
    CifarFiles(
        "cifar-10-batches-py",
        {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)},
        "batches.meta",
        "labels",
        "label_names",
    ),
    CifarFiles("cifar-100-python", {"train": ("train",), "test": ("test",)}, "meta", "fine_labels", "fine_label_names"),
)
ARCHIVES = ("cifar-10-python.tar.gz", "cifar-100-python.tar.gz")


def cifar_images(path: Path, split: CifarSplit) -> ImageSource:
    """The images of a split of CIFAR-10 or, with its 100 fine labels, of CIFAR-100. ``path`` is the folder with its
    files or the archive. The rows are in the order of the files. ValueError, at once, where files are missing or the
    names of the labels cannot be read."""
    files = _version(path)
    meta = _fields(path, files.meta, next(_read(path, (files.meta,)))[1])
    names = meta.get(files.names)
    if not isinstance(names, list) or not all(isinstance(name, bytes | str) for name in names):
        raise ValueError(f"{path}: {files.meta} has no {files.names}; download the files again")
    named = tuple(name.decode("latin-1") if isinstance(name, bytes) else name for name in names)
    return ImageSource(f"{path} {split}", lambda: _rows(path, files, split, len(named)), named)


def is_cifar(path: Path) -> bool:
    """Whether ``path`` is a folder or an archive of CIFAR by the names in it; an archive by its own name."""
    if path.is_file():
        return path.name in ARCHIVES
    return any((path / files.meta).is_file() for files in CIFAR)


def _version(path: Path) -> CifarFiles:
    """The version of CIFAR in a folder or an archive."""
    if path.is_dir():
        found = {name.name for name in path.iterdir()}
    else:
        with _archive(path) as archive:
            found = {PurePosixPath(member.name).name for member in archive}
    for files in CIFAR:
        if files.meta in found:
            lacking = [name for names in files.splits.values() for name in names if name not in found]
            if lacking:
                raise ValueError(f"{path}: {lacking[0]} is missing; download and unpack {files.folder} again")
            return files
    raise ValueError(f"{path}: no files of CIFAR; give {' or '.join(files.folder for files in CIFAR)} as distributed")


@contextmanager
def _archive(path: Path) -> Iterator[tarfile.TarFile]:
    """The archive, open. ValueError for one that cannot be opened, or not be read to its end within the block."""
    try:
        with tarfile.open(path) as archive:
            yield archive
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: this archive is cut short or damaged ({reason}); download it again") from error


def _read(path: Path, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """The files of these names, each with its content; of an archive in the order in which it has them."""
    if path.is_dir():
        for name in names:
            yield name, (path / name).read_bytes()
        return
    with _archive(path) as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            if name in names and member.isfile():
                if member.size > LARGEST_FILE:
                    raise ValueError(f"{path}: {name} has {member.size:,} bytes; no file of CIFAR is so large")
                content = archive.extractfile(member)
                assert content is not None
                yield name, content.read()


def _fields(path: Path, name: str, content: bytes) -> Mapping[str, Any]:
    try:
        return read_array_pickle(content)
    except ValueError as error:
        raise ValueError(f"{path}: {name}: {error}; download it again from the authors' page") from error


def _rows(path: Path, files: CifarFiles, split: CifarSplit, classes: int) -> Iterator[ImageRow]:
    number = 0
    for name, content in _read(path, files.splits[split]):
        fields = _fields(path, name, content)
        pixels, labels = fields.get("data"), fields.get(files.label)
        if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != 3 * SIDE * SIDE:
            raise ValueError(f"{path}: {name}: data is no array of rows of 3,072 bytes; download it again")
        if not isinstance(labels, list) or len(labels) != len(pixels):
            raise ValueError(f"{path}: {name}: {files.label} has not one label a row; download it again")
        for image, label in zip(pixels.reshape(-1, 3, SIDE, SIDE), labels, strict=True):
            number += 1
            problem = "" if isinstance(label, int) and 0 <= label < classes else f"label {label!r:.40} has no name"
            yield ImageRow(number, f"row {number}", image, label, problem)
