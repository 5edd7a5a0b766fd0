"""Shards: what is written is read again, by any tool and by key; what is broken is refused by name."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stores import KEYS, LAYOUT, LOGITS, STATES, kept, write_noise

from stages.cache_folder import CacheFolder
from stages.checksum import file_sha256
from stages.outputs.layer_variance import layer_variances
from stages.outputs.layout import STORE, Layout, UnknownFormat, read_store, scales_name, shard_name, write_store
from stages.outputs.node_cache import decode
from stages.outputs.parquet import (
    BATCH_ROWS,
    Damaged,
    footer_sha256,
    read_row_keys,
    read_scales,
    read_tokens,
    state_batches,
    write_shard,
)
from stages.outputs.reader import read_columns
from stages.outputs.sizes import rows_a_shard
from stages.specs.teacher import COMPRESSIONS, Compression


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Thirty rows in three shards."""
    write_noise(tmp_path)
    return tmp_path


def test_columns_come_back_by_key_in_the_requested_order(store: Path) -> None:
    order = [*range(30), 7, 7]
    random.Random(1).shuffle(order)
    found = read_columns(store, ["logits", "hidden_02"], [KEYS[row] for row in order])
    assert np.array_equal(found["logits"], LOGITS[order]) and found["logits"].dtype == np.float32
    assert np.array_equal(found["hidden_02"], STATES["hidden_02"].astype(np.float16)[order])
    assert found["hidden_02"].dtype == np.float16
    assert found.keys() == {"logits", "hidden_02"}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_what_is_read_does_not_depend_on_the_compression(
    precision: str, compression: Compression, tmp_path: Path
) -> None:
    layout = replace(LAYOUT, precision=precision)
    states = {name: values.astype(np.float32) for name, values in STATES.items()}
    folders = tmp_path / "usual", tmp_path / "other"
    for folder, given in zip(folders, ("zstd", compression), strict=True):
        folder.mkdir()
        file = write_shard(folder, 0, layout, KEYS, LOGITS, states, compression=given)
        assert file.sha256 == file_sha256(folder / file.name) and file.bytes == (folder / file.name).stat().st_size
        write_store(folder, layout, "rule", [file])
        codec = "UNCOMPRESSED" if given == "none" else given.upper()
        row_group = pq.ParquetFile(folder / file.name).metadata.row_group(0)
        assert {row_group.column(place).compression for place in range(row_group.num_columns)} == {codec}
    usual, other = (read_columns(folder, ["logits", "hidden_02"], KEYS) for folder in folders)
    assert all(np.array_equal(usual[name], other[name]) for name in usual)


@pytest.mark.parametrize("precision", ["float16", "float32", "int8"])
def test_a_whole_table_that_arrow_reads_has_the_same_values(precision: str, tmp_path: Path) -> None:
    layout = replace(LAYOUT, precision=precision)
    write_noise(tmp_path, layout)
    found = read_columns(tmp_path, ["logits", "hidden_12"], KEYS)
    tables = [pq.read_table(tmp_path / shard_name(number)) for number in range(3)]
    arrow = np.concatenate([np.stack(table["hidden_12"].to_numpy()) for table in tables])
    if precision == "int8":
        scales = [read_scales(tmp_path, number, ["hidden_12"])["hidden_12"] for number in range(3)]
        assert arrow.dtype == np.uint8
        parts = [arrow[10 * n : 10 * n + 10].astype(np.float32) * scales[n].scale + scales[n].offset for n in range(3)]
        arrow = np.concatenate(parts)
    assert np.array_equal(found["hidden_12"], arrow)
    assert np.array_equal(found["logits"], np.concatenate([np.stack(table["logits"].to_numpy()) for table in tables]))


def test_pages_that_end_within_a_row_are_read_whole(tmp_path: Path) -> None:
    """A page holds about a megabyte, so wide rows are cut anywhere."""
    rows, width = 700, 999
    layout = Layout("pooled", (1,), width, 1, 1, "mean", "float32")
    states = np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32)
    keys = [row.to_bytes(16, "little") for row in range(rows)]
    file = write_shard(tmp_path, 0, layout, keys, np.zeros((rows, 1), np.float32), {"hidden_01": states})
    write_store(tmp_path, layout, "rule", [file])
    assert np.array_equal(read_columns(tmp_path, ["hidden_01"], keys)["hidden_01"], states)
    assert pq.read_metadata(tmp_path / shard_name(0)).row_group(0).column(2).total_uncompressed_size > 2 << 20


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_layers_of_different_widths_are_stored_and_read_each_in_its_own(precision: str, tmp_path: Path) -> None:
    layout = Layout("pooled", (0, 3), 0, 0, 3, "both", precision, widths=(5, 8))
    drawn = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    states = {state.column: drawn[:, : state.width] for state in layout.states}
    (tmp_path / "store").mkdir()
    file = write_shard(tmp_path / "store", 0, layout, KEYS, LOGITS, kept(layout, states))
    store = write_store(tmp_path / "store", layout, "rule", [file])
    assert read_store(tmp_path / "store") == store and layout.width_by_layer == {0: 5, 3: 8}
    found = decode(tmp_path / "store", list(states), KEYS[::-1], CacheFolder(tmp_path / "cache"), lambda _: None)
    for column, values in read_columns(tmp_path / "store", list(states), KEYS).items():
        np.testing.assert_allclose(values, states[column], atol=0.02)
        assert np.array_equal(found.gather(column, np.arange(30)), values[::-1]), column
    assert all(variance.variance > 0.5 for variance in layer_variances(tmp_path / "store").values())
    narrow = replace(layout, layers=(0,), widths=(), width=5)
    assert layout.serves(narrow) and not layout.serves(replace(narrow, width=6))


def test_a_store_of_equal_widths_is_described_as_before_widths_could_differ(store: Path) -> None:
    assert "widths" not in json.loads((store / STORE).read_text("utf-8"))["layout"]


def test_a_shard_holds_keys_logits_and_a_column_a_layer_under_zstd(store: Path) -> None:
    table = pq.read_table(store / "shard-00001.parquet")
    assert table.column_names == ["row_key", "logits", "hidden_00", "hidden_02", "hidden_12"]
    assert table.schema.field("row_key").type == pa.binary(16)
    assert (table.schema.field("logits").type.value_type, table.schema.field("logits").type.list_size) == (
        pa.float32(),
        3,
    )
    assert (table.schema.field("hidden_12").type.value_type, table.schema.field("hidden_12").type.list_size) == (
        pa.float16(),
        8,
    )
    assert table.schema == LAYOUT.schema
    assert table["row_key"].to_pylist() == KEYS[10:20]
    chunk = pq.read_metadata(store / "shard-00001.parquet").row_group(0).column(1)
    assert chunk.compression == "ZSTD" and set(chunk.encodings) == {"PLAIN", "RLE"}


def test_the_layout_and_the_shards_checksums_come_back(store: Path) -> None:
    found = read_store(store)
    assert (found.layout, found.rows, len(found.shards)) == (LAYOUT, 30, 3)
    assert [state.column for state in LAYOUT.states] == ["hidden_00", "hidden_02", "hidden_12"]


def test_a_store_of_both_poolings_has_a_column_of_each_for_every_layer() -> None:
    both = replace(LAYOUT, pooling="both")
    names = [(state.column, state.layer, state.pooling) for state in both.states]
    assert names[:2] == [("hidden_00", 0, "mean"), ("hidden_02", 2, "mean")]
    assert names[3:] == [("cls_00", 0, "cls"), ("cls_02", 2, "cls"), ("cls_12", 12, "cls")]
    assert both.column_of(2, "cls") == "cls_02" and both.column_of(2, "mean") == "hidden_02"
    assert replace(LAYOUT, pooling="cls").column_of(2, "cls") == "hidden_02"
    with pytest.raises(ValueError, match=r"layer 2, pooling cls is needed; change store\.layers or store\.pooling"):
        LAYOUT.column_of(2, "cls")


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
    with pytest.raises(
        ValueError, match=r"shard-00001\.parquet: this shard cannot be read .*verify .* --repair"
    ) as caught:
        read_columns(store, ["logits"], KEYS)
    assert "\n" not in str(caught.value)


def test_a_missing_shard_is_named(store: Path) -> None:
    (store / shard_name(2)).unlink()
    with pytest.raises(ValueError, match=r"shard-00002\.parquet: this shard cannot be read"):
        read_columns(store, ["logits"], KEYS)


def test_one_flipped_bit_of_a_state_is_noticed_by_readers_of_its_column_alone(store: Path) -> None:
    path = store / shard_name(1)
    chunk = pq.read_metadata(path).row_group(0).column(3)
    assert chunk.path_in_schema.startswith("hidden_02")
    spoilt = bytearray(path.read_bytes())
    spoilt[chunk.data_page_offset + chunk.total_compressed_size - 3] ^= 1
    path.write_bytes(spoilt)
    found = read_columns(store, ["logits", "hidden_12"], KEYS)
    assert np.array_equal(found["logits"], LOGITS)
    assert np.array_equal(found["hidden_12"], STATES["hidden_12"].astype(np.float16))
    with pytest.raises(Damaged, match=r"shard-00001\.parquet: this shard cannot be read \(a page's checksum"):
        read_columns(store, ["hidden_02"], KEYS)


def test_no_flipped_bit_is_read_as_if_nothing_were_wrong(store: Path) -> None:
    """Nor does one end the process, as some do that reach Arrow's parser of footers."""
    path = store / shard_name(1)
    whole = path.read_bytes()
    undisturbed = read_columns(store, ["logits", "hidden_02"], KEYS)
    noticed = 0
    for bit in random.Random(5).sample(range(8 * len(whole)), 300):
        spoilt = bytearray(whole)
        spoilt[bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoilt)
        try:
            found = read_columns(store, ["logits", "hidden_02"], KEYS)
        except Damaged:
            noticed += 1
        else:
            assert all(np.array_equal(found[name], undisturbed[name]) for name in found), bit
    assert noticed > 100, "the rest lay in columns that were not read"


def test_a_reader_of_one_column_does_not_touch_the_bytes_of_another(store: Path) -> None:
    path = store / shard_name(1)
    chunk = pq.read_metadata(path).row_group(0).column(3)
    spoilt = bytearray(path.read_bytes())
    place, size = chunk.data_page_offset, chunk.total_compressed_size
    spoilt[place : place + size] = b"\xff" * size
    path.write_bytes(spoilt)
    assert np.array_equal(read_columns(store, ["logits"], KEYS)["logits"], LOGITS)
    with pytest.raises(Damaged, match=r"shard-00001\.parquet: this shard cannot be read"):
        read_columns(store, ["hidden_02"], KEYS)


def rewritten(store: Path, number: int, table: pa.Table) -> None:
    """Replace a shard, and its footer's checksum in store.json, by a sound Parquet file of another content."""
    path, found = store / shard_name(number), read_store(store)
    pq.write_table(table, path, compression="zstd", use_dictionary=False, write_page_checksum=True)
    files = [
        replace(shard, footer_sha256=footer_sha256(path)) if shard.number == number else shard for shard in found.shards
    ]
    write_store(store, found.layout, found.tokenisation, files)


def test_a_column_of_another_number_type_or_width_or_with_nulls_is_damage(store: Path) -> None:
    """Arrow would read each of them, as other values, other rows, or both."""
    table = pq.read_table(store / shard_name(1))
    place = table.column_names.index("hidden_02")
    states = np.stack(table["hidden_02"].to_numpy())
    item = pa.field("item", pa.float16(), nullable=False)
    wide = pa.FixedSizeListArray.from_arrays(pa.array(states.astype(np.float32).reshape(-1)), 8)
    narrow = pa.FixedSizeListArray.from_arrays(pa.array(states[:, :4].reshape(-1)), type=pa.list_(item, 4))
    holes = pa.array([None, *states[1:].tolist()], pa.list_(pa.float16(), 8))
    for column in (wide, narrow, holes):
        rewritten(store, 1, table.set_column(place, pa.field("hidden_02", column.type), column))
        assert np.array_equal(read_columns(store, ["logits"], KEYS)["logits"], LOGITS)
        with pytest.raises(Damaged, match=r"shard-00001\.parquet: this shard cannot be read \(it holds .*hidden_02"):
            read_columns(store, ["hidden_02"], KEYS)


def test_a_column_that_a_shard_lacks_is_damage(store: Path) -> None:
    rewritten(store, 1, pq.read_table(store / shard_name(1)).drop_columns(["hidden_02"]))
    with pytest.raises(Damaged, match=r"cannot be read \(it holds no column hidden_02"):
        read_columns(store, ["hidden_02"], KEYS)


def test_a_column_comes_in_batches_of_a_bounded_number_of_rows(tmp_path: Path) -> None:
    rows = 2 * BATCH_ROWS + 7
    states = np.arange(rows * 8).reshape(rows, 8).astype(np.float32)
    layout = Layout("pooled", (1,), 8, 1, 1, "mean", "float32")
    keys = [row.to_bytes(16, "little") for row in range(rows)]
    write_shard(tmp_path, 0, layout, keys, np.zeros((rows, 1), np.float32), {"hidden_01": states})
    batches = list(state_batches(tmp_path, 0, layout, "hidden_01"))
    assert [len(batch) for batch in batches] == [BATCH_ROWS, BATCH_ROWS, 7]
    assert np.array_equal(np.concatenate(batches), states)
    assert read_row_keys(tmp_path / shard_name(0)) == keys


def test_a_shard_is_written_whole_or_not_at_all(store: Path) -> None:
    before = (store / shard_name(0)).read_bytes()
    states = {name: values[:10] for name, values in kept(LAYOUT, STATES).items()}
    with pytest.raises(pa.ArrowInvalid):
        write_shard(store, 0, LAYOUT, KEYS[:10], LOGITS[:9], states)
    assert (store / shard_name(0)).read_bytes() == before


def test_a_store_of_a_newer_format_is_refused(store: Path) -> None:
    text = (store / "store.json").read_text()
    (store / "store.json").write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(UnknownFormat, match=r"store\.json: store format 2 is newer than 1; upgrade Stillhouse$"):
        read_store(store)


def test_every_position_of_every_layer_comes_back(tmp_path: Path) -> None:
    lengths = np.array([3, 1, 5], np.int32)
    for precision in ("float16", "float32", "int8"):
        layout = Layout("tokens", (0, 2), 8, 4, 3, "", precision)
        values = {name: STATES["hidden_00"][: lengths.sum()] for name in ("tokens_00", "tokens_02")}
        write_shard(tmp_path, 0, layout, KEYS[:3], lengths, kept(layout, values))
        found, found_lengths = read_tokens(tmp_path / shard_name(0), layout, "tokens_02")
        assert np.array_equal(found_lengths, lengths) and found.shape == (9, 8)
        if precision == "int8":
            scales = read_scales(tmp_path, 0, ["tokens_02"])["tokens_02"]
            found = found * scales.scale + scales.offset
            assert (np.abs(found - values["tokens_02"]) <= scales.scale * 0.51).all()
        else:
            assert np.array_equal(found, values["tokens_02"].astype(precision))
        rows = pq.read_table(tmp_path / shard_name(0))["tokens_00"].to_pylist()
        assert [len(row) for row in rows] == [3, 1, 5] and len(rows[0][0]) == 8


def test_attention_maps_come_back_flat(tmp_path: Path) -> None:
    lengths = np.array([2, 3], np.int32)
    layout = Layout("attention", (1,), 8, 2, 3, "", "float16")
    maps = np.arange(2 * (4 + 9)).astype(np.float16)
    write_shard(tmp_path, 0, layout, KEYS[:2], lengths, {"attention_01": maps})
    found, found_lengths = read_tokens(tmp_path / shard_name(0), layout, "attention_01")
    assert np.array_equal(found, maps) and np.array_equal(found_lengths, lengths)
    assert [len(row) for row in pq.read_table(tmp_path / shard_name(0))["attention_01"].to_pylist()] == [8, 18]


@pytest.mark.parametrize(("row_bytes", "rows"), [(100, 4096), (1 << 16, 1024), (1 << 30, 1)])
def test_a_shard_is_of_at_most_4096_rows_and_64_mib(row_bytes: int, rows: int) -> None:
    assert rows_a_shard(row_bytes) == rows


def test_the_tier_int8_leaves_scales_beside_each_shard(tmp_path: Path) -> None:
    files = write_noise(tmp_path, replace(LAYOUT, precision="int8"))
    for file in files:
        table = pq.read_table(tmp_path / scales_name(file.number))
        assert table["what"].to_pylist() == ["scale", "offset"]
        assert table.column_names == ["what", "hidden_00", "hidden_02", "hidden_12"]
        assert len(file.scales_sha256) == 64


def test_codes_of_a_dimension_far_from_zero_keep_its_differences(tmp_path: Path) -> None:
    states = (1000 + 0.05 * np.random.default_rng(2).normal(size=(200, 8))).astype(np.float32)
    layout = Layout("pooled", (1,), 8, 1, 1, "mean", "int8")
    keys = [row.to_bytes(16, "little") for row in range(200)]
    file = write_shard(tmp_path, 0, layout, keys, np.zeros((200, 1), np.float32), {"hidden_01": states})
    write_store(tmp_path, layout, "rule", [file])
    found = read_columns(tmp_path, ["hidden_01"], keys)["hidden_01"]
    assert np.square(found - states).mean() / states.var(0).mean() < 1e-3


def test_the_variance_of_a_layer_is_its_between_row_variance_over_its_mean_squared_norm(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    states = {"hidden_00": np.ones((9, 4), np.float16), "hidden_01": generator.normal(size=(9, 4)).astype(np.float16)}
    layout = Layout("pooled", (0, 1), 4, 2, 2, "mean", "float16")
    keys = [bytes([row]) * 16 for row in range(9)]
    files = []
    for number, rows in enumerate((slice(0, 5), slice(5, 9))):
        own = {name: values[rows] for name, values in states.items()}
        files.append(write_shard(tmp_path, number, layout, keys[rows], np.zeros((9, 2), np.float32)[rows], own))
    write_store(tmp_path, layout, "rule", files)
    found = layer_variances(tmp_path)
    wide = states["hidden_01"].astype(np.float64)
    expected = wide.var(axis=0).sum() / (wide**2).sum(axis=1).mean()
    assert found["hidden_00"].variance == 0.0
    assert found["hidden_00"].norm == pytest.approx(2.0)
    assert found["hidden_01"].variance == pytest.approx(expected)
