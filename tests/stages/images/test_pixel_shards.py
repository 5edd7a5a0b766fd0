"""Decoded images are written in parts, on which an interrupted writer goes on, and read as mapped arrays."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from image_files import random_pixels
from training_setups import inline

from stages.images import pixel_shards
from stages.images.pixel_key import pixel_key
from stages.images.pixel_reader import MappedPixels, pixel_path, read_pixel_meta, read_stored_images, row_path
from stages.images.pixel_shards import part_count, write_images
from stages.images.rows import pixel_column
from stages.images.statistics import normalisation_of

SHAPE = (3, 4, 5)
TRAIN = random_pixels(11, *SHAPE)
TEST = random_pixels(3, *SHAPE, seed=1)


def table(pixels: np.ndarray, labels: list[int | None]) -> pa.Table:
    columns = {
        "index": pa.array(range(100, 100 + len(pixels)), pa.int64()),
        "row_key": pa.array(map(pixel_key, pixels), pa.binary(16)),
        "label": pa.array(labels, pa.int64()),
        "pixels": pixel_column(pixels),
    }
    return pa.table(columns)


SPLITS = {"train": table(TRAIN, list(range(11))), "test": table(TEST, [None, 2, None])}


@pytest.fixture(autouse=True)
def four_rows_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_shards, "PART_BYTES", 4 * TRAIN[0].nbytes + 1)


def files(out: Path) -> dict[str, tuple[int, bytes]]:
    """Name -> (time of the last change, content)."""
    found = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def test_what_is_written_is_read_as_mapped_arrays(tmp_path: Path) -> None:
    assert write_images(SPLITS, SHAPE, tmp_path, inline()) == {"train": 11, "test": 3}
    train, test = (read_stored_images(tmp_path, split) for split in ("train", "test"))
    assert [len(file) for file in train.pixels.files] == [4, 4, 3]
    assert all(isinstance(file, np.memmap) for file in train.pixels.files)
    np.testing.assert_array_equal(np.concatenate(train.pixels.files), TRAIN)
    assert [key.tobytes() for key in train.row_keys] == [pixel_key(image) for image in TRAIN]
    assert (len(train), train.labels.tolist(), train.index[0]) == (11, list(range(11)), 100)
    assert (test.labels.tolist(), test.labelled.tolist()) == ([0, 2, 0], [False, True, False])
    meta = read_pixel_meta(tmp_path)
    assert (meta.shape, dict(meta.rows), dict(meta.parts)) == (SHAPE, {"train": 11, "test": 3}, {"train": 3, "test": 1})
    assert meta.normalisation == normalisation_of(TRAIN)


@pytest.mark.parametrize("rows", [[0], [10, 0, 4, 3, 10, 7, 8], list(range(11)), []])
def test_rows_of_several_files_are_gathered_in_the_order_in_which_they_are_requested(rows: list[int]) -> None:
    pixels = MappedPixels((TRAIN[:4], TRAIN[4:8], TRAIN[8:])).followed_by(MappedPixels((TEST,)))
    assert len(pixels) == 14
    chosen = np.array([*rows, 13], np.int64)
    np.testing.assert_array_equal(pixels.gather(chosen), np.concatenate([TRAIN, TEST])[chosen])
    one = np.array(rows, np.int64)
    np.testing.assert_array_equal(MappedPixels((TRAIN,)).gather(one), TRAIN[one])


def test_a_second_writer_keeps_the_parts_that_are_there_and_writes_the_others_alike(tmp_path: Path) -> None:
    write_images(SPLITS, SHAPE, tmp_path, inline())
    whole = files(tmp_path)
    for lost in ("pixels.json", "train/part-00001.npy", "test/part-00000.parquet"):
        (tmp_path / lost).unlink()
    (tmp_path / "train/part-00002.npy").write_bytes(whole["train/part-00002.npy"][1][:-1])
    write_images(SPLITS, SHAPE, tmp_path, inline())
    again = files(tmp_path)
    assert {name: content for name, (_, content) in again.items()} == {name: one for name, (_, one) in whole.items()}
    kept = {name for name, (time, _) in again.items() if time == whole[name][0]}
    assert kept == {"train/part-00000.npy", "train/part-00000.parquet"}


def test_a_part_of_other_rows_is_written_again(tmp_path: Path) -> None:
    write_images(SPLITS, SHAPE, tmp_path, inline())
    other = {**SPLITS, "test": table(TEST[::-1].copy(), [2, 1, 0])}
    write_images(other, SHAPE, tmp_path, inline())
    np.testing.assert_array_equal(read_stored_images(tmp_path, "test").pixels.files[0], TEST[::-1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda out: (out / "pixels.json").unlink(), "holds no finished images"),
        (lambda out: row_path(out, "train", 1).unlink(), "this part cannot be read"),
        (lambda out: pixel_path(out, "train", 1).write_bytes(b"\x93NUMPY"), "this part cannot be read"),
        (lambda out: np.save(pixel_path(out, "train", 0), TRAIN[:2]), "not .4, 3, 4, 5.; build the images again"),
        (lambda out: stated(out, 12), "11 rows; pixels.json says 12; build it again"),
    ],
)
def test_images_that_are_not_whole_are_refused_in_one_line(
    damage: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    write_images(SPLITS, SHAPE, tmp_path, inline())
    damage(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        read_stored_images(tmp_path, "train")
    assert "\n" not in str(caught.value)


def stated(out: Path, rows: int) -> None:
    content = json.loads((out / "pixels.json").read_text())
    content["splits"]["train"]["rows"] = rows
    (out / "pixels.json").write_text(json.dumps(content))


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write_images(SPLITS, SHAPE, tmp_path, inline())
    with pytest.raises(ValueError, match=r"split: dev is not in .*; it has train, test"):
        read_stored_images(tmp_path, "dev")


def test_large_images_have_one_row_a_part() -> None:
    assert part_count(7, (3, 4000, 4000)) == 7
