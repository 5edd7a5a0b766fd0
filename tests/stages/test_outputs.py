"""The teacher-output store: what is written is read again, by key; what is broken is refused by name."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.outputs import (
    Layout,
    column,
    layer_spreads,
    read_columns,
    read_layout,
    shard_name,
    write_layout,
    write_shard,
)

GENERATOR = np.random.Generator(np.random.PCG64(9))
# Keys with zeros at their ends, which a fixed-width string type would lose.
KEYS = [bytes([number, *GENERATOR.bytes(13), 0, 0]) for number in range(30)]
LOGITS = GENERATOR.normal(size=(30, 3)).astype(np.float32)
STATES = {layer: GENERATOR.normal(size=(30, 8)).astype(np.float16) for layer in (0, 2, 12)}
LAYOUT = Layout((0, 2, 12), 8, 3, "mean", "float16", 30, 3)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Thirty rows in three shards."""
    for number in range(3):
        part = slice(10 * number, 10 * number + 10)
        states = {layer: values[part] for layer, values in STATES.items()}
        write_shard(tmp_path / shard_name(number), LAYOUT, KEYS[part], LOGITS[part], states)
    write_layout(tmp_path, LAYOUT)
    return tmp_path


def test_columns_come_back_by_key_in_the_order_asked_for(store: Path) -> None:
    order = [*range(30), 7, 7]
    random.Random(1).shuffle(order)
    found = read_columns(store, ["logits", "hidden_02"], [KEYS[row] for row in order])
    assert np.array_equal(found["logits"], LOGITS[order]) and found["logits"].dtype == np.float32
    assert np.array_equal(found["hidden_02"], STATES[2][order]) and found["hidden_02"].dtype == np.float16
    assert found.keys() == {"logits", "hidden_02"}


def test_any_tool_can_read_a_shard(store: Path) -> None:
    table = pq.read_table(store / "shard-00001.parquet")
    assert table.column_names == ["row_key", "logits", "hidden_00", "hidden_02", "hidden_12"]
    assert table.schema.field("row_key").type == pa.binary(16)
    assert table.schema.field("logits").type == pa.list_(pa.float32(), 3)
    assert table.schema.field("hidden_12").type == pa.list_(pa.float16(), 8)
    assert table["row_key"].to_pylist() == KEYS[10:20]
    chunk = pq.read_metadata(store / "shard-00001.parquet").row_group(0).column(1)
    assert chunk.compression == "ZSTD" and "DICTIONARY" not in "".join(chunk.encodings)


def test_the_layout_says_what_is_inside_and_comes_back(store: Path) -> None:
    assert read_layout(store) == LAYOUT
    assert [column(layer) for layer in LAYOUT.layers] == ["hidden_00", "hidden_02", "hidden_12"]


def test_nothing_but_whole_shards_is_left(store: Path) -> None:
    assert sorted(entry.name for entry in store.iterdir()) == [*map(shard_name, range(3)), "store.json"]


def test_a_row_that_the_store_lacks_is_named(store: Path) -> None:
    stranger = bytes(range(16))
    with pytest.raises(ValueError) as caught:
        read_columns(store, ["logits"], [KEYS[3], stranger, KEYS[4]])
    message = f"lacks 1 of 3 rows, the first is row 1 ({stranger.hex()}); run the teach stage over this corpus"
    assert str(caught.value) == f"{store}: the store {message}"


def test_a_column_that_the_store_lacks_is_named(store: Path) -> None:
    with pytest.raises(ValueError, match=r"the store has no column hidden_01; it has hidden_00, hidden_02, hidden_12"):
        read_columns(store, ["logits", "hidden_01"], KEYS)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_shard_is_named(store: Path, share: float) -> None:
    path = store / shard_name(1)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"shard-00001\.parquet: this shard cannot be read .*--stage teach") as caught:
        read_columns(store, ["logits"], KEYS)
    assert "\n" not in str(caught.value)


def test_a_missing_shard_is_named(store: Path) -> None:
    (store / shard_name(2)).unlink()
    with pytest.raises(ValueError, match=r"shard-00002\.parquet: this shard cannot be read"):
        read_columns(store, ["logits"], KEYS)


def test_a_reader_of_one_column_does_not_touch_the_bytes_of_another(store: Path) -> None:
    path = store / shard_name(1)
    chunk = pq.read_metadata(path).row_group(0).column(3)
    assert chunk.path_in_schema.startswith("hidden_02")
    spoilt = bytearray(path.read_bytes())
    spoilt[chunk.data_page_offset : chunk.data_page_offset + chunk.total_compressed_size] = (
        b"\xff" * chunk.total_compressed_size
    )
    path.write_bytes(spoilt)
    found = read_columns(store, ["logits", "hidden_12"], KEYS)
    assert np.array_equal(found["logits"], LOGITS) and np.array_equal(found["hidden_12"], STATES[12])
    with pytest.raises(ValueError, match=r"shard-00001\.parquet: this shard cannot be read"):
        read_columns(store, ["hidden_02"], KEYS)


def test_a_shard_is_written_whole_or_not_at_all(store: Path) -> None:
    path = store / shard_name(0)
    before = path.read_bytes()
    with pytest.raises(pa.ArrowInvalid):
        write_shard(path, LAYOUT, KEYS[:10], LOGITS[:9], {layer: values[:10] for layer, values in STATES.items()})
    assert path.read_bytes() == before


def test_the_spread_of_a_layer_is_its_between_row_variance_over_its_mean_squared_norm(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    states = {0: np.ones((9, 4), np.float16), 1: generator.normal(size=(9, 4)).astype(np.float16)}
    layout = Layout((0, 1), 4, 2, "mean", "float16", rows=9, shards=2)
    logits = np.zeros((9, 2), np.float32)
    keys = [bytes([row]) * 16 for row in range(9)]
    for number, rows in enumerate((slice(0, 5), slice(5, 9))):
        kept = {layer: values[rows] for layer, values in states.items()}
        write_shard(tmp_path / shard_name(number), layout, keys[rows], logits[rows], kept)
    write_layout(tmp_path, layout)
    found = layer_spreads(tmp_path)
    wide = states[1].astype(np.float64)
    expected = wide.var(axis=0).sum() / (wide**2).sum(axis=1).mean()
    assert found["hidden_00"].variance == 0.0
    assert found["hidden_00"].norm == pytest.approx(2.0)
    assert found["hidden_01"].variance == pytest.approx(expected)
