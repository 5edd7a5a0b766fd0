"""Small images, and the files that data sets of images come in, for the tests."""

import gzip
import io
import struct
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def random_pixels(rows: int, *shape: int, seed: int = 0) -> Pixels:
    """Random images [rows, *shape]."""
    return np.random.default_rng(seed).integers(0, 256, (rows, *shape)).astype(np.uint8)


def encoded(pixels: Pixels, kind: str = "PNG", **options: Any) -> bytes:
    """An image [C, H, W] of one or three channels as the bytes of a file."""
    values = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    return saved(Image.fromarray(np.ascontiguousarray(values)), kind, **options)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """An image of Pillow as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write_classes(folder: Path, classes: Mapping[str, Sequence[Pixels]]) -> Path:
    """A folder with a folder of PNG files for each class."""
    for name, images in classes.items():
        (folder / name).mkdir(parents=True)
        for number, pixels in enumerate(images):
            (folder / name / f"{number:03d}.png").write_bytes(encoded(pixels))
    return folder


# --- CIFAR ------------------------------------------------------------------------------------


def python_2_pickle(fields: Mapping[str, object]) -> bytes:
    """A dictionary as ``cPickle`` of Python 2 writes it with protocol 2, in which the files of CIFAR are: strings are
    bytes, and arrays are those of a numpy before 2."""
    return b"\x80\x02}(" + b"".join(_string(name.encode()) + _value(value) for name, value in fields.items()) + b"u."


def _value(value: object) -> bytes:
    match value:
        case np.ndarray():
            return _array(value)
        case list():
            return b"](" + b"".join(map(_value, value)) + b"e"
        case int():
            return b"J" + struct.pack("<i", value)
        case str():
            return _string(value.encode())
    raise AssertionError(value)


def _string(data: bytes) -> bytes:
    return b"T" + struct.pack("<I", len(data)) + data


def _array(values: npt.NDArray[Any]) -> bytes:
    kind = values.dtype.str[1:].encode()
    shape = b"(" + b"".join(_value(size) for size in values.shape) + b"t"
    dtype = (
        b"cnumpy\ndtype\nU" + bytes([len(kind)]) + kind + b"K\x00K\x01\x87R(K\x03U\x01|NNN" + b"J\xff\xff\xff\xff" * 2
    )
    begin = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
    return begin + shape + dtype + b"K\x00tb" + b"\x89" + _string(values.tobytes()) + b"tb"


def write_cifar10(folder: Path, rows: int = 3) -> dict[str, tuple[Pixels, list[int]]]:
    """The files of CIFAR-10 with ``rows`` rows each. Returns the pixels [N, 3, 32, 32] and labels of each split."""
    folder.mkdir(parents=True)
    files = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    written = []
    for number, name in enumerate(files):
        pixels = random_pixels(rows, 3, 32, 32, seed=number)
        labels = [(number + row) % 10 for row in range(rows)]
        fields = {
            "batch_label": name,
            "labels": labels,
            "data": pixels.reshape(rows, -1),
            "filenames": ["a.png"] * rows,
        }
        (folder / name).write_bytes(python_2_pickle(fields))
        written.append((pixels, labels))
    names = [f"class {number}" for number in range(10)]
    meta = {"num_cases_per_batch": rows, "label_names": names, "num_vis": 3072}
    (folder / "batches.meta").write_bytes(python_2_pickle(meta))
    train = np.concatenate([pixels for pixels, _ in written[:5]]), [one for _, labels in written[:5] for one in labels]
    return {"train": train, "test": written[5]}


def write_cifar100(folder: Path, rows: int = 4) -> dict[str, tuple[Pixels, list[int]]]:
    """The files of CIFAR-100, as ``write_cifar10``, with its fine labels."""
    folder.mkdir(parents=True)
    written = {}
    for seed, name in enumerate(("train", "test")):
        pixels, labels = random_pixels(rows, 3, 32, 32, seed=seed), [(37 * row + seed) % 100 for row in range(rows)]
        fields = {"coarse_labels": [0] * rows, "fine_labels": labels, "data": pixels.reshape(rows, -1)}
        (folder / name).write_bytes(python_2_pickle(fields))
        written[name] = pixels, labels
    meta = {
        "fine_label_names": [f"fine {n}" for n in range(100)],
        "coarse_label_names": [f"coarse {n}" for n in range(20)],
    }
    (folder / "meta").write_bytes(python_2_pickle(meta))
    return written


def archived(folder: Path, archive: Path) -> Path:
    """A folder as a .tar.gz."""
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, folder.name)
    return archive


# --- idx ------------------------------------------------------------------------------------


def idx(values: Pixels) -> bytes:
    """An array of bytes as an idx file."""
    return bytes([0, 0, 8, values.ndim]) + b"".join(struct.pack(">I", size) for size in values.shape) + values.tobytes()


def write_idx(folder: Path, rows: int = 5, compressed: bool = True) -> dict[str, tuple[Pixels, list[int]]]:
    """The files of Fashion-MNIST. Returns the pixels [N, 28, 28] and labels of each split."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for seed, (split, stem) in enumerate((("train", "train"), ("test", "t10k"))):
        pixels, labels = random_pixels(rows, 28, 28, seed=seed), np.arange(rows, dtype=np.uint8) % 10
        for name, values in (("images-idx3", pixels), ("labels-idx1", labels)):
            path = folder / f"{stem}-{name}-ubyte{'.gz' if compressed else ''}"
            path.write_bytes(gzip.compress(idx(values)) if compressed else idx(values))
        written[split] = pixels, labels.tolist()
    return written
