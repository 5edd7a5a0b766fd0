"""Pickles of arrays are read, and nothing in them is executed."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import python_2_pickle, random_pixels

from stages.images.sources.array_pickle import read_array_pickle

DATA = random_pixels(4, 12)


def test_a_pickle_of_python_2_is_read() -> None:
    found = read_array_pickle(python_2_pickle({"data": DATA, "labels": [3, 1, 0, 2], "batch_label": "one"}))
    np.testing.assert_array_equal(found["data"], DATA)
    assert found["data"].dtype == np.uint8
    assert (found["labels"], found["batch_label"]) == ([3, 1, 0, 2], b"one")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("data", [DATA, np.asfortranarray(DATA), DATA.reshape(2, 2, 12), DATA[:1]])
def test_a_pickle_that_was_written_again_by_python_3_is_read(data: Any, protocol: int) -> None:
    found = read_array_pickle(pickle.dumps({b"data": data, "names": ["a", b"b"]}, protocol=protocol))
    np.testing.assert_array_equal(found["data"], data)
    assert found["names"] == ["a", b"b"]


class Runs:
    """A value whose pickle runs a command when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


class Builds:
    """A value whose pickle evaluates Python when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1 + 1",)


def test_a_pickle_that_would_run_a_command_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    target = tmp_path / "made"
    data = pickle.dumps({"data": Runs(target)})
    with pytest.raises(ValueError, match=r"names posix\.system, which no file of arrays does"):
        read_array_pickle(data)
    assert not target.exists()
    pickle.loads(data)
    assert target.exists(), "the same pickle does run its command where it is simply loaded"


NAME = b"cnumpy\nndarray\n"
DTYPE = b"cnumpy\ndtype\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps({"data": Builds()}), "names builtins.eval"),
        (pickle.dumps({"data": np.arange(3)}, protocol=2), "not one of bytes"),
        (pickle.dumps({"data": np.array([Path()], object)}, protocol=2), "names pathlib"),
        (pickle.dumps({"data": DATA}, protocol=5), "names numpy._core.numeric._frombuffer"),
        (pickle.dumps([DATA], protocol=2), "it holds a list, not a dictionary"),
        (pickle.dumps({"data": DATA}, protocol=2)[:-20], "not a pickle of arrays"),
        (b"", "not a pickle of arrays"),
        (b"\x1f\x8b compressed", "not a pickle of arrays"),
        (b"\x80\x02" + NAME + b"K\x01\x85R.", "calls what is not called"),
        (b"\x80\x02" + NAME + b"}U\x08__call__K\x01sb.", "not a pickle of arrays"),
        (b"\x80\x02" + DTYPE + b"}U\x08__call__K\x01s\x86b.", "not a pickle of arrays"),
        (b"\x80\x02Pname\n.", "not a pickle of arrays"),
        (b"\x80\x02}U\x01aU\x07outsideQs.", "outside of the file"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.", "in an unknown way"),
    ],
)
def test_any_other_pickle_is_refused_in_one_line(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_array_pickle(data)
    assert "\n" not in str(caught.value)


def test_an_array_whose_shape_is_not_that_of_its_bytes_is_refused() -> None:
    whole = python_2_pickle({"data": DATA})
    place = whole.index(b"J\x04\x00\x00\x00")
    for size in (b"\x05\x00\x00\x00", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff"):
        with pytest.raises(ValueError, match="an array in it is not one of bytes"):
            read_array_pickle(whole[: place + 1] + size + whole[place + 5 :])
