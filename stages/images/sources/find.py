"""Finds the images of a split in a folder, by the names in it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from stages.images.rows import ImageSource
from stages.images.sources.cifar import ARCHIVES, CIFAR, cifar_images, is_cifar
from stages.images.sources.class_folders import class_folders
from stages.images.sources.idx import FASHION, has_idx, idx_images
from stages.images.sources.parquet import parquet_images
from stages.specs.tasks import Task

LAYOUTS = (
    "<split>.parquet, a folder <split>/<class> of images, the files of CIFAR-10 or -100 (or their .tar.gz), or the idx "
    "files of Fashion-MNIST or MNIST"
)


def image_source(folder: Path, split: str, image: str = "image", label: str = "label") -> ImageSource | None:
    """The images of a split in ``folder``; None where it has no such split. ``image`` and ``label`` are columns of
    Parquet files.

    In this order: ``<split>.parquet``; images by class in ``<split>/<class>``; CIFAR's own files, in ``folder`` or in a
    folder or archive with the name under which they are distributed; the idx files of Fashion-MNIST, or of MNIST in a
    folder called ``mnist``. ValueError where ``folder`` holds none of these, and where a source cannot be read.
    """
    place = split_place(folder, split)
    return None if place is None else images_at(place, split, image, label)


def split_place(folder: Path, split: str) -> Path | None:
    """The file or the folder in ``folder`` with the images of a split, as ``images_at`` reads it; None if there is no
    such split. ValueError where ``folder`` holds no images."""
    if not folder.is_dir():
        raise ValueError(f"source: {folder} is not a folder; use one that holds {LAYOUTS}")
    file = folder / f"{split}.parquet"
    if file.is_file():
        return file
    if (folder / split).is_dir():
        return folder / split
    original = original_files(folder)
    if original is None and not _other_splits(folder):
        raise ValueError(f"source: {folder} holds no images; it needs {LAYOUTS}")
    return original if split in ("train", "test") else None


def images_at(place: Path, split: str, image: str = "image", label: str = "label") -> ImageSource:
    """The images of a split in a Parquet file, in folders by class, or in a data set as it is distributed, of which
    ``split`` is train or else test. ValueError where they cannot be read."""
    known: Literal["train", "test"] = "train" if split == "train" else "test"
    if place.is_dir() and has_idx(place):
        return idx_images(place, known, () if place.name.lower() == "mnist" else FASHION)
    if is_cifar(place):
        return cifar_images(place, known)
    return class_folders(place) if place.is_dir() else parquet_images(place, image, label)


def image_places(folder: Path, task: Task) -> Mapping[str, Path]:
    """Split -> where its images are, by the task's names for its splits. Test splits may be missing. ValueError where
    a train or dev split is missing."""
    found = {split: split_place(folder, split) for split in (task.train, *task.dev, *task.test)}
    for split in (task.train, *task.dev):
        if found[split] is None:
            raise ValueError(f"source: {folder} has no split {split}; {task.name} needs it: give {LAYOUTS}")
    return {split: place for split, place in found.items() if place is not None}


def original_files(folder: Path) -> Path | None:
    """Where in ``folder`` a data set lies as it is distributed: the folder or the archive; None if there is none."""
    if is_cifar(folder) or has_idx(folder):
        return folder
    places = [folder / name for name in (*(files.folder for files in CIFAR), *ARCHIVES)]
    return next((path for path in places if path.exists() and is_cifar(path)), None)


def _other_splits(folder: Path) -> bool:
    """Whether a folder has the splits of a user's own images, by their names alone."""
    return any(
        path.name.endswith(".parquet") or (path.is_dir() and not path.name.startswith(".")) for path in folder.iterdir()
    )
