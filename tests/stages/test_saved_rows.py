"""Rows that are saved while a shard is computed."""

from pathlib import Path

import numpy as np

from stages import saved_rows
from stages.saved_rows import SavedRows

KEYS = [bytes([number] * 14 + [0, 0]) for number in range(5)]


def test_rows_are_found_again_with_their_values_types_and_sizes(tmp_path: Path) -> None:
    ragged = [np.arange(size, dtype=np.float16) for size in (3, 1, 0, 7, 2)]
    logits = np.arange(10, dtype=np.float32).reshape(5, 2)
    saved = SavedRows(tmp_path / "scratch", "shard-a")
    assert not saved.found
    saved.save(KEYS[:2], {"states": ragged[:2], "heads": logits[:2]})
    saved.save(KEYS[2:], {"states": ragged[2:], "heads": logits[2:]})
    SavedRows(tmp_path / "scratch", "shard-b").save(KEYS[:1], {"states": [np.zeros(1)]})
    found = SavedRows(tmp_path / "scratch", "shard-a").found
    assert list(found) == KEYS
    for row, key in enumerate(KEYS):
        assert found[key]["states"].dtype == np.float16 and np.array_equal(found[key]["states"], ragged[row])
        assert found[key]["heads"].dtype == np.float32 and np.array_equal(found[key]["heads"], logits[row])
    saved.remove()
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["shard-b-0000.npz"]


def test_saving_is_due_after_some_seconds(tmp_path: Path) -> None:
    now = [100.0]
    saved = SavedRows(tmp_path, "shard", lambda: now[0])
    assert not saved.due
    now[0] += saved_rows.SAVE_SECONDS
    assert saved.due
    saved.save(KEYS[:1], {"heads": [np.ones(2)]})
    assert not saved.due


def test_a_file_that_cannot_be_read_is_ignored(tmp_path: Path) -> None:
    saved = SavedRows(tmp_path, "shard")
    saved.save(KEYS[:1], {"heads": [np.ones(2)]})
    saved.save(KEYS[1:2], {"heads": [np.ones(2)]})
    whole = (tmp_path / "shard-0000.npz").read_bytes()
    for broken in (b"", whole[: len(whole) // 2], b"no such format"):
        (tmp_path / "shard-0000.npz").write_bytes(broken)
        assert list(SavedRows(tmp_path, "shard").found) == KEYS[1:2]
