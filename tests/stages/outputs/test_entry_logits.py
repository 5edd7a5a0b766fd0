"""Stores whose rows have several entries, with logits for each."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from stages.cache_folder import CacheFolder
from stages.outputs.entry_logits import EntryLogits
from stages.outputs.layout import Layout, read_store, write_store
from stages.outputs.node_cache import decode
from stages.outputs.parquet import read_entry_logits, write_shard
from stages.outputs.reader import read_columns
from stages.outputs.reuse import read_rows
from stages.outputs.verify import check_store
from stages.teaching.collector import OutputCollector

LAYOUT = Layout("pooled", (1,), 2, 4, 3, "mean", "float32", entries=True)
COUNTS = (2, 1, 5, 3, 1)
KEYS = [bytes([7, number]) + bytes(14) for number in range(len(COUNTS))]
GENERATOR = np.random.Generator(np.random.PCG64(4))
ROWS = [GENERATOR.normal(size=(count, 3)).astype(np.float32) for count in COUNTS]
STATES = GENERATOR.normal(size=(len(COUNTS), 2)).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of two shards."""
    directory = tmp_path / "store"
    directory.mkdir()
    files = [
        write_shard(
            directory,
            number,
            LAYOUT,
            KEYS[part],
            EntryLogits.of(ROWS[part]),
            {"hidden_01": np.ascontiguousarray(STATES[part])},
        )
        for number, part in enumerate((slice(0, 3), slice(3, 5)))
    ]
    write_store(directory, LAYOUT, "rule", files)
    return directory


def test_a_shard_holds_a_list_of_vectors_for_each_row(store: Path) -> None:
    table = pq.read_table(store / "shard-00000.parquet")
    assert table.schema.equals(LAYOUT.schema)
    assert table["logits"].to_pylist() == [row.tolist() for row in ROWS[:3]]


def test_the_layout_is_read_as_it_was_written_and_checked(store: Path) -> None:
    assert read_store(store).layout == LAYOUT
    assert check_store(store, KEYS, lambda _: None).passed


def test_values_that_are_not_finite_are_found(store: Path) -> None:
    rows = [ROWS[0], np.full((1, 3), np.nan, np.float32)]
    file = write_shard(store, 0, LAYOUT, KEYS[:2], EntryLogits.of(rows), {"hidden_01": STATES[:2]})
    write_store(store, LAYOUT, "rule", [file])
    assert "not finite" in check_store(store, KEYS[:2], lambda _: None).shards[0].problem


def test_rows_are_gathered_from_the_decoded_copy_padded_with_0(store: Path, tmp_path: Path) -> None:
    order = [4, 2, 0]
    cache = CacheFolder(tmp_path / "cache", 1 << 30)
    found = decode(store, ["logits"], [KEYS[row] for row in order], cache, lambda _: None)
    logits = found.gather("logits", np.array([0, 1, 2]))
    assert logits.shape == (3, 5, 3)
    for place, row in enumerate(order):
        assert np.array_equal(logits[place, : COUNTS[row]], ROWS[row])
        assert not logits[place, COUNTS[row] :].any()
    assert found.gather("logits", np.array([2])).shape == (1, 2, 3)


def test_rows_of_a_finished_shard_are_copied_bit_by_bit(store: Path) -> None:
    logits, states, _ = read_rows(store, 0, LAYOUT, LAYOUT, [KEYS[2], KEYS[0]])
    assert isinstance(logits, EntryLogits)
    assert np.array_equal(logits.values, np.concatenate([ROWS[2], ROWS[0]]))
    assert np.array_equal(states["hidden_01"], STATES[[2, 0]])


def test_one_vector_a_row_cannot_be_read_of_such_a_store(store: Path) -> None:
    with pytest.raises(ValueError, match="logits for each entry"):
        read_columns(store, ["logits"], KEYS)


def test_a_store_with_logits_of_rows_does_not_serve_one_of_entries() -> None:
    assert not replace(LAYOUT, entries=False).serves(LAYOUT)
    assert LAYOUT.serves(LAYOUT)
    assert LAYOUT.serves(replace(LAYOUT, entries=False, outputs=0))


def test_a_collector_keeps_rows_of_different_lengths_in_any_order() -> None:
    collected = OutputCollector(LAYOUT, 3)
    collected.add(np.array([2, 0]), ([ROWS[2], ROWS[0]], {"hidden_01": STATES[[2, 0]]}))
    saved = {name: rows[0].reshape(-1) for name, rows in collected.values_of([2]).items()}
    collected.add(np.array([1]), ([ROWS[1]], {"hidden_01": STATES[[1]]}))
    again = OutputCollector(LAYOUT, 1)
    again.restore(0, saved)
    logits, _ = collected.finished(KEYS[:3])
    restored, _ = again.finished(KEYS[2:3])
    assert isinstance(logits, EntryLogits) and isinstance(restored, EntryLogits)
    assert np.array_equal(logits.values, np.concatenate(ROWS[:3])) and logits.counts.tolist() == [2, 1, 5]
    assert np.array_equal(restored.values, ROWS[2])


def test_a_bad_row_is_named_by_its_place() -> None:
    collected = OutputCollector(LAYOUT, 2)
    bad = ROWS[0].copy()
    bad[1, 2] = np.inf
    collected.add(np.array([0, 1]), ([ROWS[1], bad], {"hidden_01": STATES[:2]}))
    assert collected.not_finite() == {1: "logits: inf"}
    with pytest.raises(ValueError, match="the teacher's logits"):
        collected.finished(KEYS[:2])


def test_rows_are_taken_in_any_order() -> None:
    logits = EntryLogits.of(ROWS).take(np.array([3, 0, 3]))
    assert np.array_equal(logits.values, np.concatenate([ROWS[3], ROWS[0], ROWS[3]]))


def test_logits_of_entries_are_read_from_a_shard(store: Path) -> None:
    found = read_entry_logits(store / "shard-00001.parquet", LAYOUT)
    assert np.array_equal(found.values, np.concatenate(ROWS[3:])) and found.counts.tolist() == [3, 1]
