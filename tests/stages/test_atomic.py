"""Drafts that take the place of a file."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stages.atomic import replacing


@pytest.mark.parametrize("durable", [False, True])
def test_the_old_content_stays_until_the_block_has_ended(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "meta.json"
    path.write_text("old")
    with replacing(path, durable=durable) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
        assert draft.name.endswith(".tmp")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_content_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "meta.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as draft:
        draft.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "meta.json"):
        pass


def test_threads_that_write_the_same_file_each_have_a_draft_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "meta.json"

    def write(number: int) -> None:
        for _ in range(50):
            with replacing(path) as draft:
                draft.write_text(str(number) * 1000)
            text = path.read_text()
            assert len(text) == 1000
            assert len(set(text)) == 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert list(tmp_path.iterdir()) == [path]
