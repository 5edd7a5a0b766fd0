"""Images in a folder by class, ``<split>/<class>/<name>.png`` and the like, or in any folder without labels."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from stages.images.rows import ImageRow, ImageSource

ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
"""The names of image files end so, in upper or lower case."""


def class_folders(folder: Path) -> ImageSource:
    """The images in the folders of ``folder``, each of which has the name of a class; deeper folders belong to their
    class. Rows are in the order of their paths, and a label is the name of a class. Hidden files and folders are passed
    over.

    ValueError, at once, where there is no class, a class has no image, a file is no image, or images lie beside the
    classes.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: not a folder; give one that holds a folder of images for each class")
    classes: list[Path] = []
    loose: list[Path] = []
    for path in sorted(folder.iterdir()):
        if not path.name.startswith("."):
            (classes if path.is_dir() else loose).append(path)
    if any(is_image(path) for path in loose):
        name = next(path.name for path in loose if is_image(path))
        raise ValueError(f"{folder}: the image {name} is in no class; put it in a folder with its class's name")
    if not classes:
        raise ValueError(f"{folder}: no folders in it; it needs one for each class, with the class's images")
    files = []
    for home in classes:
        found = _images(home)
        if not found:
            raise ValueError(f"{home}: no images in this class; add some, or remove the folder")
        files += [(path, home.name) for path in found]
    return ImageSource(str(folder), lambda: _rows(folder, files), tuple(home.name for home in classes), True)


def folder_images(place: Path) -> ImageSource:
    """The images in a folder and in the folders below it, or the one image file ``place``, without labels. Rows are in
    the order of their paths, which name them. ValueError, at once, where there is no image, or a file is none."""
    folder, found = (place, _images(place)) if place.is_dir() else (place.parent, [place])
    if not found:
        raise ValueError(
            f"{place}: no images in it; give a folder that has some, or a Parquet file with a column of them"
        )
    return ImageSource(str(place), lambda: _rows(folder, [(path, None) for path in found]), of_files=True)


def is_image(path: Path) -> bool:
    """Whether a file is an image by its name."""
    return path.name.lower().endswith(ENDINGS)


def _images(home: Path) -> Sequence[Path]:
    found = []
    for level, folders, names in os.walk(home):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(level, name) for name in names if not name.startswith(".")]
    for path in sorted(found):
        if not is_image(path):
            raise ValueError(
                f"{path}: not an image by its name; take it out, or let its name end in one of {', '.join(ENDINGS)}"
            )
    return sorted(found)


def _rows(folder: Path, files: Sequence[tuple[Path, str | None]]) -> Iterator[ImageRow]:
    for number, (path, label) in enumerate(files, start=1):
        place = str(path.relative_to(folder))
        try:
            yield ImageRow(number, place, path.read_bytes(), label)
        except OSError as error:
            yield ImageRow(number, place, b"", label, f"cannot be read ({error.strerror}); make it readable")
