"""What earlier versions wrote is read: for each format that is promised, a tiny store and a record are kept here."""

import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline.artifacts import record
from pipeline.artifacts.record import Record, parse_record
from stages.corpus.row_key import row_key
from stages.outputs.layout import READABLE, UnknownFormat, read_store, shard_name
from stages.outputs.parquet import read_row_keys, read_tokens
from stages.outputs.reader import read_columns
from stages.outputs.verify import check_store

KEPT = Path(__file__).parent / "kept"
KINDS = ("pooled-float16", "pooled-float32", "pooled-int8", "tokens", "attention")
STORES = [(version, kind) for version in READABLE for kind in KINDS]


def expected_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "expected.json").read_text("utf-8"))
    return found


def test_a_store_of_each_kind_is_kept_for_each_format_that_is_read() -> None:
    assert sorted(path.name for path in KEPT.iterdir()) == [str(version) for version in READABLE]
    for version in READABLE:
        folders = [path for path in (KEPT / str(version)).iterdir() if path.is_dir()]
        assert sorted(path.name for path in folders) == sorted(KINDS)
    assert record.FORMAT in READABLE


@pytest.mark.parametrize(("version", "kind"), STORES)
def test_a_kept_store_is_sound_and_its_rows_have_the_keys_of_their_texts(version: int, kind: str) -> None:
    folder = KEPT / str(version) / kind
    expected, store = expected_of(folder), read_store(folder)
    assert store.format == version
    keys = [row_key([text]) for text in expected["texts"]]
    assert [key.hex() for key in keys] == expected["row_keys"]
    assert check_store(folder, keys, lambda _: None).passed
    assert [key for shard in store.shards for key in read_row_keys(folder / shard.name)] == keys


@pytest.mark.parametrize(("version", "kind"), [one for one in STORES if one[1].startswith("pooled")])
def test_the_pooled_states_of_a_kept_store_are_the_numbers_that_were_stored(version: int, kind: str) -> None:
    folder = KEPT / str(version) / kind
    expected = expected_of(folder)
    columns = ["logits", "hidden_00", "hidden_02", "cls_00", "cls_02"]
    found = read_columns(folder, columns, [bytes.fromhex(key) for key in reversed(expected["row_keys"])])
    for column in columns:
        assert np.array_equal(found[column][::-1], np.array(expected[column], found[column].dtype)), column


@pytest.mark.parametrize(("version", "kind"), [one for one in STORES if not one[1].startswith("pooled")])
def test_the_positions_of_a_kept_store_are_the_numbers_that_were_stored(version: int, kind: str) -> None:
    folder = KEPT / str(version) / kind
    expected, store = expected_of(folder), read_store(folder)
    for state in store.layout.states:
        found = [read_tokens(folder / shard.name, store.layout, state.column) for shard in store.shards]
        assert np.concatenate([lengths for _, lengths in found]).tolist() == expected["length"]
        wanted = np.concatenate([np.array(row, np.float16) for row in expected[state.column]])
        assert np.array_equal(np.concatenate([values for values, _ in found]), wanted)


@pytest.mark.parametrize("version", READABLE)
def test_another_reader_of_parquet_finds_the_same_numbers(version: int) -> None:
    folder = KEPT / str(version) / "pooled-float32"
    found = pl.read_parquet(folder / "shard-*.parquet")
    assert found["hidden_02"].to_list() == expected_of(folder)["hidden_02"]


@pytest.mark.parametrize("version", READABLE)
def test_a_kept_record_is_read_with_all_its_fields(version: int) -> None:
    text = (KEPT / str(version) / "record.json").read_text("utf-8")
    found, document = parse_record(text, "record.json"), json.loads(text)
    assert isinstance(found, Record)
    added_since = {own.name for own in fields(Record)} - set(document)
    assert set(document) <= {own.name for own in fields(Record)} and added_since <= {"full_seconds"}
    assert (found.name, found.stage, found.rows, found.format) == ("teach@tiny", "teach", 6, version)
    assert [file.path for file in found.files] == [file["path"] for file in document["files"]]
    assert found.spec == document["spec"]


@pytest.mark.parametrize(
    ("version", "why"),
    [
        (READABLE[-1] + 1, f"is newer than {READABLE[-1]}; upgrade Stillhouse"),
        (0, "is no longer read; use an earlier Stillhouse"),
    ],
)
def test_a_store_of_an_unknown_format_is_refused_in_one_line_without_the_advice_to_repair_it(
    tmp_path: Path, version: int, why: str
) -> None:
    folder = tmp_path / "store"
    shutil.copytree(KEPT / "1" / "pooled-float16", folder)
    document = json.loads((folder / "store.json").read_text("utf-8"))
    (folder / "store.json").write_text(json.dumps({**document, "format": version, "novelty": 1}), "utf-8")
    with pytest.raises(UnknownFormat) as caught:
        read_store(folder)
    assert str(caught.value) == f"{folder / 'store.json'}: store format {version} {why}"
    assert (folder / shard_name(0)).exists()


def test_fields_that_this_version_does_not_know_are_ignored(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    shutil.copytree(KEPT / "1" / "pooled-int8", folder)
    before, document = read_store(folder), json.loads((folder / "store.json").read_text("utf-8"))
    later = {**document, "novelty": 1, "layout": {**document["layout"], "novelty": 1}}
    later["shards"] = [{**shard, "novelty": 1} for shard in document["shards"]]
    (folder / "store.json").write_text(json.dumps(later), "utf-8")
    assert read_store(folder) == before
