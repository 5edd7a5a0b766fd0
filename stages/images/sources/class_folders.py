"""Images in a folder by class: ``<split>/<class>/<name>.png``, and the like."""

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
    if any(_is_image(path) for path in loose):
        name = next(path.name for path in loose if _is_image(path))
        raise ValueError(f"{folder}: the image {name} is in no class; put it in a folder with its class's name")
    if not classes:
        raise ValueError(f"{folder}: no folders in it; it needs one for each class, with the class's images")
    files = [(path, home.name) for home in classes for path in _images(home)]
    return ImageSource(str(folder), lambda: _rows(folder, files), tuple(home.name for home in classes))


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def _images(home: Path) -> Sequence[Path]:
    found = []
    for level, folders, names in os.walk(home):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(level, name) for name in names if not name.startswith(".")]
    for path in sorted(found):
        if not _is_image(path):
            raise ValueError(
                f"{path}: not an image by its name; take it out, or let its name end in one of {', '.join(ENDINGS)}"
            )
    if not found:
        raise ValueError(f"{home}: no images in this class; add some, or remove the folder")
    return sorted(found)


def _rows(folder: Path, files: Sequence[tuple[Path, str]]) -> Iterator[ImageRow]:
    for number, (path, label) in enumerate(files, start=1):
        place = str(path.relative_to(folder))
        try:
            yield ImageRow(number, place, path.read_bytes(), label)
        except OSError as error:
            yield ImageRow(number, place, b"", label, f"cannot be read ({error.strerror}); make it readable")
