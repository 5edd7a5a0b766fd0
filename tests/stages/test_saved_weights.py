"""Weights that cannot be read are a line with the folder and the remedy."""

from pathlib import Path

import pytest
from safetensors import SafetensorError

from stages.saved_weights import weights_that_load


@pytest.mark.parametrize("error", [OSError, FileNotFoundError, SafetensorError, RuntimeError])
def test_what_readers_raise_becomes_one_line_with_the_folder(error: type[Exception]) -> None:
    with (
        pytest.raises(ValueError, match=r"^/models/x: no weights that load \(cut off\); save them there") as caught,
        weights_that_load(Path("/models/x"), RuntimeError),
    ):
        raise error("cut off\nat byte 7")
    assert "\n" not in str(caught.value) and isinstance(caught.value.__cause__, error)


def test_another_error_is_passed_on() -> None:
    with pytest.raises(RuntimeError, match="mine"), weights_that_load(Path("x")):
        raise RuntimeError("mine")
