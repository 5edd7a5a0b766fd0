"""The files that images come in: what is read from each, and what is refused."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_files import archived, encoded, idx, random_pixels, write_cifar10, write_cifar100, write_classes, write_idx

from stages.images.rows import DecodedRows, ImageSource, pixel_array, read_images
from stages.images.sources.cifar import cifar_images
from stages.images.sources.class_folders import class_folders
from stages.images.sources.find import image_source
from stages.images.sources.idx import FASHION, idx_images
from stages.images.sources.parquet import parquet_images

DATA = Path(os.environ.get("STILLHOUSE_DATA", Path(__file__).parents[4] / "../shared/data"))
IMAGES = random_pixels(5, 3, 4, 6)


def pixels(rows: DecodedRows) -> Any:
    return pixel_array(rows.table["pixels"], rows.shape)


def found(source: ImageSource | None, channels: Any = 3) -> DecodedRows:
    assert source is not None
    return read_images(source, channels)


def refusal(read: Callable[[], object]) -> str:
    """The message, of one line, of the ValueError that ``read`` raises."""
    with pytest.raises(ValueError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- Parquet ------------------------------------------------------------------------------------


def write_parquet(path: Path, images: Any, labels: Any = None, **more: Any) -> Path:
    labels = {} if labels is None else {"label": labels}
    pq.write_table(pa.table({"image": images, **labels, **more}), path)
    return path


def structs(images: list[bytes | None], paths: list[str | None]) -> pa.Array:
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return pa.array([{"bytes": data, "path": path} for data, path in zip(images, paths, strict=True)], kind)


def test_encoded_images_of_a_parquet_file_are_read_from_bytes_and_from_structs(tmp_path: Path) -> None:
    data = [encoded(image) for image in IMAGES]
    columns = [
        pa.array(data, pa.binary()),
        pa.array(data, pa.large_binary()),
        structs(data, ["a.png", None, "", "b", "c"]),
    ]
    for column in columns:
        rows = found(parquet_images(write_parquet(tmp_path / "train.parquet", column, [4, 3, 2, 1, 0])))
        np.testing.assert_array_equal(pixels(rows), IMAGES)
        assert rows.labels == [4, 3, 2, 1, 0]


def test_the_library_datasets_writes_files_that_are_read(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"img": datasets.Image(), "kind": datasets.ClassLabel(names=["x", "y"])})
    images = [np.ascontiguousarray(image.transpose(1, 2, 0)) for image in IMAGES]
    rows = {"img": images, "kind": [0, 1, 0, 1, 1]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    decoded = found(parquet_images(tmp_path / "train.parquet", "img", "kind"))
    np.testing.assert_array_equal(pixels(decoded), IMAGES)
    assert decoded.labels == [0, 1, 0, 1, 1]


def test_without_a_column_of_labels_each_label_is_none(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "test.parquet", pa.array([encoded(IMAGES[0])]))
    assert found(parquet_images(path)).labels == [None]


def test_what_is_wrong_with_a_parquet_file_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    write_parquet(path, ["a"], [0])
    assert refusal(lambda: parquet_images(path)).startswith(f"{path}: column image: of type string; it must hold")
    write_parquet(path, pa.array([b""]), [0], other=[1])
    assert refusal(lambda: parquet_images(path, "img")) == f"{path}: no column img; it has image, label, other"
    path.write_bytes(b"PAR1 and no more")
    assert "not a whole Parquet file" in refusal(lambda: parquet_images(path))
    assert "is not there" not in refusal(lambda: parquet_images(tmp_path))
    write_parquet(path, structs([encoded(IMAGES[0]), None, None], ["a", "b.png", None]), [0, 1, 2])
    message = refusal(lambda: found(parquet_images(path)))
    assert message.startswith(
        f"{path}: 2 of 3 images cannot be used: row 2, column image: no bytes, only the path 'b.png'"
    )
    assert "row 3, column image: null; every row needs an image" in message


def test_a_file_that_is_damaged_in_its_middle_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "train.parquet", pa.array([encoded(image) for image in IMAGES]), [0] * 5)
    data = bytearray(path.read_bytes())
    data[4:60] = bytes(56)
    path.write_bytes(data)
    assert "not a whole Parquet file" in refusal(lambda: found(parquet_images(path)))


# --- folders by class -------------------------------------------------------------------------------------


def test_folders_give_the_names_of_the_classes_and_rows_in_the_order_of_paths(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "train", {"dog": IMAGES[:2], "cat": IMAGES[2:]})
    (folder / ".hidden").mkdir()
    (folder / "cat" / ".thumbs.db").write_bytes(b"")
    source = class_folders(folder)
    rows = found(source)
    assert source.names == ("cat", "dog")
    assert rows.labels == ["cat"] * 3 + ["dog"] * 2
    np.testing.assert_array_equal(pixels(rows), IMAGES[[2, 3, 4, 0, 1]])


def test_deeper_folders_belong_to_their_class_and_endings_may_be_in_upper_case(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "train", {"cat/siamese": IMAGES[:1], "dog": IMAGES[1:2]})
    (folder / "dog" / "000.png").rename(folder / "dog" / "Z.PNG")
    assert found(class_folders(folder)).labels == ["cat", "dog"]


def test_what_is_wrong_with_a_folder_is_said_in_one_line(tmp_path: Path) -> None:
    assert "not a folder" in refusal(lambda: class_folders(tmp_path / "none"))
    (tmp_path / "train").mkdir()
    assert "no folders in it" in refusal(lambda: class_folders(tmp_path / "train"))
    folder = write_classes(tmp_path / "dev", {"cat": IMAGES[:2], "dog": IMAGES[:1]})
    (folder / "dog" / "000.png").write_bytes(b"cut")
    assert refusal(lambda: found(class_folders(folder))).startswith(
        f"{folder}: dog/000.png: the image cannot be decoded"
    )
    (folder / "dog" / "notes.txt").write_text("notes")
    assert "dog/notes.txt: not an image by its name; take it out" in refusal(lambda: class_folders(folder))
    (folder / "bird").mkdir()
    assert "bird: no images in this class" in refusal(lambda: class_folders(folder))
    (folder / "a.png").write_bytes(b"")
    assert "the image a.png is in no class" in refusal(lambda: class_folders(folder))


# --- CIFAR ------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("write", "name"), [(write_cifar10, "cifar-10"), (write_cifar100, "cifar-100")])
def test_the_own_files_of_cifar_are_read(write: Any, name: str, packed: bool, tmp_path: Path) -> None:
    folder = tmp_path / ("cifar-10-batches-py" if write is write_cifar10 else "cifar-100-python")
    written = write(folder)
    if packed:
        archived(folder, tmp_path / f"{name}-python.tar.gz")
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    for split in ("train", "test"):
        source = image_source(tmp_path, split)
        assert source is not None
        rows = read_images(source, 3)
        np.testing.assert_array_equal(pixels(rows), written[split][0])
        assert rows.labels == written[split][1]
        assert source.names[7] == ("class 7" if write is write_cifar10 else "fine 7")
    assert image_source(tmp_path, "validation") is None


def test_what_is_wrong_with_the_files_of_cifar_is_said_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    write_cifar10(folder)
    whole = (folder / "data_batch_3").read_bytes()
    (folder / "data_batch_3").write_bytes(whole[:1000])
    message = refusal(lambda: found(cifar_images(folder, "train")))
    assert message.startswith(f"{folder}: data_batch_3: not a pickle of arrays") and message.endswith("authors' page")
    (folder / "data_batch_3").write_bytes(whole.replace(b"labels", b"tables"))
    assert "data_batch_3: labels has not one label a row" in refusal(lambda: found(cifar_images(folder, "train")))
    (folder / "data_batch_3").write_bytes(whole.replace(b"T\x04\x00\x00\x00data", b"T\x04\x00\x00\x00date"))
    assert "data_batch_3: data is no array of rows of 3,072" in refusal(lambda: found(cifar_images(folder, "train")))
    (folder / "data_batch_3").unlink()
    assert "data_batch_3 is missing" in refusal(lambda: cifar_images(folder, "train"))
    (folder / "batches.meta").unlink()
    assert "no files of CIFAR" in refusal(lambda: cifar_images(folder, "train"))
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"no archive")
    assert "this archive is cut short or damaged" in refusal(lambda: cifar_images(archive, "train"))


def test_an_archive_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-py")
    archive = archived(tmp_path / "cifar-10-batches-py", tmp_path / "cifar-10-python.tar.gz")
    archive.write_bytes(archive.read_bytes()[:20_000])
    message = refusal(lambda: found(cifar_images(archive, "train")))
    assert "cut short or damaged" in message


# --- idx ------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("name", ["fashion-mnist", "mnist"])
def test_the_own_files_of_fashion_mnist_are_read(name: str, compressed: bool, tmp_path: Path) -> None:
    written = write_idx(tmp_path / name, compressed=compressed)
    for split in ("train", "test"):
        source = image_source(tmp_path / name, split)
        rows = found(source, 1)
        np.testing.assert_array_equal(pixels(rows)[:, 0], written[split][0])
        assert rows.labels == written[split][1]
        assert source is not None and source.names == (FASHION if name == "fashion-mnist" else ())
    assert found(image_source(tmp_path / name, "test"), 3).shape == (3, 28, 28)
    assert image_source(tmp_path / name, "dev") is None


def test_what_is_wrong_with_idx_files_is_said_in_one_line(tmp_path: Path) -> None:
    write_idx(tmp_path, compressed=False)
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    whole = images.read_bytes()
    images.write_bytes(whole[:-1])
    assert "3,919 bytes, where 5 x 28 x 28 are stated" in refusal(lambda: found(idx_images(tmp_path, "train"), 1))
    images.write_bytes(b"\x00\x00\x0d" + whole[3:])
    assert "not an idx file of bytes in 3 dimensions" in refusal(lambda: found(idx_images(tmp_path, "train"), 1))
    images.write_bytes(whole)
    labels.write_bytes(idx(np.zeros(4, np.uint8)))
    assert "5 images, and 4 labels in train-labels" in refusal(lambda: found(idx_images(tmp_path, "train"), 1))
    labels.unlink()
    assert "train-labels-idx1-ubyte.gz is missing" in refusal(lambda: idx_images(tmp_path, "train"))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(b"\x1f\x8b and no more")
    assert "cut short or damaged" in refusal(lambda: found(idx_images(tmp_path, "train"), 1))


# --- which of them a folder holds -------------------------------------------------------------------------


def test_a_parquet_file_goes_before_a_folder_of_classes(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": IMAGES[:1]})
    assert found(image_source(tmp_path, "train")).labels == ["cat"]
    write_parquet(tmp_path / "train.parquet", pa.array([encoded(IMAGES[0])]), [7])
    assert found(image_source(tmp_path, "train")).labels == [7]
    assert image_source(tmp_path, "test") is None


def test_a_folder_without_images_is_refused_with_what_it_could_hold(tmp_path: Path) -> None:
    message = refusal(lambda: image_source(tmp_path, "train"))
    assert message.startswith(f"source: {tmp_path} holds no images; it needs <split>.parquet, a folder")
    assert "is not a folder" in refusal(lambda: image_source(tmp_path / "none", "train"))


# --- real images ------------------------------------------------------------------------------------


@pytest.mark.data
def test_cifar_10_has_its_ten_classes_of_a_thousand_distinct_test_images() -> None:
    if not (DATA / "cifar10").is_dir():
        pytest.skip(f"no data in {DATA}; set STILLHOUSE_DATA")
    rows = found(image_source(DATA / "cifar10", "test"))
    assert rows.shape == (3, 32, 32)
    assert [rows.labels.count(label) for label in range(10)] == [1000] * 10
    assert len(set(rows.table["row_key"].to_pylist())) == 10_000
