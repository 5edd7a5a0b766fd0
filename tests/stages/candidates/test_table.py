import math
from pathlib import Path

import pytest

from stages.candidates.table import (
    Candidate,
    finish,
    finished_part,
    part_path,
    read_candidates,
    read_table_meta,
    summary,
    write_part,
)
from stages.corpus.row_key import row_key

ONE, TWO, THREE = (bytes([number]) * 16 for number in range(3))
FOUND = [
    (ONE, [Candidate(("a",), 0.1), Candidate(("b",), 0.2)]),
    (TWO, [Candidate(("a",), 0.3)]),
]


def test_a_table_keeps_ranks_distances_and_keys_of_texts(tmp_path: Path) -> None:
    write_part(tmp_path, 0, ("sentence",), FOUND, {"guarded": 2})
    write_part(tmp_path, 1, ("sentence",), [(THREE, [])], {"guarded": 1})
    meta = finish(tmp_path, "neighbours", 2, ("sentence",), 2)
    assert read_table_meta(tmp_path) == meta
    table = read_candidates(tmp_path)
    assert table["row_key"].to_pylist() == [ONE, ONE, TWO]
    assert table["rank"].to_pylist() == [0, 1, 0]
    assert table["distance"].to_pylist() == pytest.approx([0.1, 0.2, 0.3])
    assert table["candidate_key"].to_pylist() == [row_key((text,)) for text in "aba"]
    assert table["sentence"].to_pylist() == ["a", "b", "a"]
    told = {"rows": 3, "candidates": 3, "distinct": 2, "rows_with_fewer": 2, "guarded": 3}
    assert summary(meta) == told


def test_a_pair_has_both_columns_and_an_unknown_distance_is_not_a_number(tmp_path: Path) -> None:
    write_part(tmp_path, 0, ("one", "two"), [(ONE, [Candidate(("x", "y"))])], {})
    finish(tmp_path, "rewrite", 1, ("one", "two"), 1)
    (row,) = read_candidates(tmp_path).to_pylist()
    assert (row["one"], row["two"], row["candidate_key"]) == ("x", "y", row_key(("x", "y")))
    assert math.isnan(row["distance"])


def test_a_part_counts_as_finished_for_its_own_rows_alone(tmp_path: Path) -> None:
    assert not finished_part(tmp_path, 0, 2)
    write_part(tmp_path, 0, ("sentence",), FOUND, {})
    assert finished_part(tmp_path, 0, 2)
    assert not finished_part(tmp_path, 0, 3)
    part_path(tmp_path, 0).write_bytes(b"PAR1")
    assert not finished_part(tmp_path, 0, 2)


def test_a_table_without_any_candidate_reads_as_empty(tmp_path: Path) -> None:
    write_part(tmp_path, 0, ("sentence",), [(ONE, [])], {})
    meta = finish(tmp_path, "neighbours", 8, ("sentence",), 1)
    assert (meta.candidates, meta.short) == (0, 1)
    assert read_candidates(tmp_path).num_rows == 0


def test_an_unfinished_table_is_refused(tmp_path: Path) -> None:
    write_part(tmp_path, 0, ("sentence",), FOUND, {})
    with pytest.raises(ValueError, match="holds no finished candidate table"):
        read_candidates(tmp_path)
