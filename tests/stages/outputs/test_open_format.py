"""The store is open: what DuckDB and Polars read of it, joined to the task's rows by key, is what we read."""

from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from training_setups import inline

from stages.corpus.reader import read_split
from stages.outputs.reader import read_columns
from stages.specs.teacher import TeachSpec
from stages.teaching.teach import teach

PRECISIONS = ["float16", "float32", "int8"]


def stored(precision: str, corpus: Path, model: Path, out: Path) -> Path:
    out.mkdir()
    teach(TeachSpec.model_validate({"precision": precision}), {"corpus": corpus, "model": model}, out, inline())
    return out


@pytest.mark.parametrize("precision", PRECISIONS)
def test_duckdb_joins_the_store_to_the_tasks_rows_by_sql(
    precision: str, tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    store = stored(precision, tiny_corpus, teacher, tmp_path / "store")
    found = duckdb.sql(
        f"""
        SELECT c.sentence, c.label, s.logits, s.hidden_03
        FROM '{tiny_corpus}/train/*.parquet' c JOIN '{store}/shard-*.parquet' s USING (row_key)
        ORDER BY c.index
        """
    ).fetchall()
    split = read_split(tiny_corpus, "train")
    assert [row[0] for row in found] == [texts[0] for texts in split.texts()]
    assert [row[1] for row in found] == split.labels.tolist()
    ours = read_columns(store, ["logits", "hidden_03"], split.keys)
    assert np.array_equal(np.array([row[2] for row in found], np.float32), ours["logits"])
    states = np.array([row[3] for row in found], np.float32)
    if precision == "int8":
        (scale,), (offset,) = duckdb.sql(
            f"SELECT hidden_03 FROM '{store}/scales-*.parquet' ORDER BY what = 'offset'"
        ).fetchall()
        states = states * np.array(scale, np.float32) + np.array(offset, np.float32)
    assert np.array_equal(states.astype(ours["hidden_03"].dtype), ours["hidden_03"])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_polars_joins_the_store_to_the_tasks_rows(
    precision: str, tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    store = stored(precision, tiny_corpus, teacher, tmp_path / "store")
    rows = pl.read_parquet(tiny_corpus / "train" / "*.parquet", columns=["row_key", "sentence"])
    joined = rows.join(pl.read_parquet(store / "shard-*.parquet"), on="row_key", how="inner")
    assert len(joined) == len(rows)
    ours = read_columns(store, ["logits"], joined["row_key"].to_list())["logits"]
    assert np.array_equal(joined["logits"].to_numpy(), ours)
    assert joined["hidden_03"].to_numpy().shape == (len(rows), 16)


def test_duckdb_reads_positions_as_nested_lists(tiny_corpus: Path, teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    spec = TeachSpec(part="tokens", layers=(3,))
    teach(spec, {"corpus": tiny_corpus, "model": teacher}, tmp_path / "out", inline())
    query = f"SELECT length, len(tokens_03), len(tokens_03[1]) FROM '{tmp_path}/out/shard-*.parquet'"
    for length, positions, width in duckdb.sql(query).fetchall():
        assert length == positions and width == 16
    assert pq.read_metadata(tmp_path / "out" / "shard-00000.parquet").num_rows > 10
