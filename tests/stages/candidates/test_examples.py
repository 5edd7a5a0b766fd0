import math
from pathlib import Path

import pytest

from stages.candidates.examples import ShownCandidate, examples
from stages.candidates.table import Candidate, finish, write_part
from stages.corpus.reader import read_split


def write_table(directory: Path, keys: list[bytes]) -> Path:
    directory.mkdir()
    for number, start in enumerate(range(0, len(keys), 3)):
        found = [
            (key, [Candidate((f"{key.hex()} {n}",), 0.25 * n) for n in range(2)]) for key in keys[start : start + 3]
        ]
        write_part(directory, number, ("sentence",), [*found, (bytes(16), [])], {})
    finish(directory, "neighbours", 2, ("sentence",), -(-len(keys) // 3))
    return directory


def test_examples_are_spread_evenly_over_the_rows_that_have_candidates(tmp_path: Path) -> None:
    keys = [bytes([number]) * 16 for number in range(1, 11)]
    table = write_table(tmp_path / "table", keys)
    found = examples(table, 4)
    assert [example.row_key for example in found] == [keys[0], keys[2], keys[5], keys[7]]
    for example in found:
        one, two = (f"{example.row_key.hex()} {n}" for n in range(2))
        assert example.candidates == (ShownCandidate(0, 0.0, (one,)), ShownCandidate(1, 0.25, (two,)))
        assert example.texts is None
    assert [example.row_key for example in examples(table, 99)] == keys


def test_the_rows_own_texts_come_from_the_corpus(tiny_corpus: Path, tmp_path: Path) -> None:
    split = read_split(tiny_corpus, "train")
    own = dict(zip(split.keys, split.texts(), strict=True))
    table = write_table(tmp_path / "table", list(own))
    found = examples(table, 5, tiny_corpus)
    assert [example.texts for example in found] == [own[example.row_key] for example in found]


def test_an_empty_table_has_no_examples_and_an_unknown_distance_stays_unknown(tmp_path: Path) -> None:
    write_part(tmp_path, 0, ("sentence",), [(bytes(16), [])], {})
    finish(tmp_path, "rewrite", 2, ("sentence",), 1)
    assert examples(tmp_path, 3) == []
    write_part(tmp_path, 0, ("sentence",), [(bytes(16), [Candidate(("a",))])], {})
    finish(tmp_path, "rewrite", 2, ("sentence",), 1)
    ((shown,),) = (example.candidates for example in examples(tmp_path, 3))
    assert math.isnan(shown.distance) and shown.texts == ("a",)


def test_an_unfinished_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no finished candidate table"):
        examples(tmp_path, 3)
