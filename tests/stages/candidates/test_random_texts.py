"""Random texts among the neighbours of a row."""

from pathlib import Path

import numpy as np
import pytest
from training_setups import inline
from vectors import write_bank

from stages.candidates.neighbours import neighbours
from stages.candidates.random_texts import interleaved, random_ranks
from stages.candidates.table import Candidate, read_candidates
from stages.corpus.leakage import normalized, read_guard
from stages.corpus.reader import read_meta, read_split
from stages.corpus.row_key import row_key
from stages.retrieval.embed import embed
from stages.specs.candidates import NeighboursSpec
from stages.specs.retrieval import EmbedSpec, TfIdf

Table = dict[bytes, list[dict[str, object]]]
WORDS = ("fine", "dull", "odd", "warm", "sharp", "late", "new", "old")
CLEAN = [f"a {word} {thing} {place}" for word in WORDS for thing in ("film", "plot") for place in ("here", "again")]


def searched(home: Path, corpus: Path, texts: list[str]) -> dict[str, Path]:
    """The inputs of the stage, with a bank of these texts and TF-IDF."""
    inputs = {"corpus": corpus, "bank": write_bank(home / "bank", [(text,) for text in texts])}
    (home / "embeddings").mkdir()
    embed(EmbedSpec(encoder=TfIdf(features=4096)), {"bank": inputs["bank"]}, home / "embeddings", inline())
    return {**inputs, "embeddings": home / "embeddings"}


def table(inputs: dict[str, Path], out: Path, **spec: object) -> Table:
    """The candidates of each row by its key, in rank order."""
    out.mkdir()
    neighbours(NeighboursSpec.model_validate(spec), inputs, out, inline())
    found: Table = {}
    for row in read_candidates(out).to_pylist():
        found.setdefault(row["row_key"], []).append(row)
    return {key: sorted(rows, key=lambda row: row["rank"]) for key, rows in found.items()}


def evaluated(corpus: Path) -> list[str]:
    splits = [name for name in read_meta(corpus).splits if name != "train"]
    return [text for name in splits for texts in read_split(corpus, name).texts() for text in texts]


def is_random(row: dict[str, object]) -> bool:
    return bool(np.isnan(row["distance"]))  # type: ignore[call-overload]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.29, 0.5, 0.9])
def test_the_first_candidates_have_the_same_share_of_random_texts_however_many_they_are(share: float) -> None:
    ranks = random_ranks(100, share)
    assert len(ranks) == round(100 * share)
    assert all(random_ranks(n, share) == {rank for rank in ranks if rank < n} for n in range(100))
    assert random_ranks(1, share) == frozenset()


def test_random_texts_stand_between_the_nearest_ones_and_are_clean_and_distinct(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    inputs = searched(tmp_path, tiny_corpus, [*CLEAN, *(text.upper() for text in evaluated(tiny_corpus))])
    plain, mixed = table(inputs, tmp_path / "plain", k=8), table(inputs, tmp_path / "mixed", k=8, random=0.5)
    split = read_split(tiny_corpus, "train")
    own, guard, drawn = dict(zip(split.keys, split.texts(), strict=True)), read_guard(tiny_corpus), set()
    full = 0
    for key, rows in mixed.items():
        texts = [str(row["sentence"]) for row in rows]
        near = [row["sentence"] for row in plain.get(key, [])][:4]
        assert [row["sentence"] for row in rows if not is_random(row)] == near, "the nearest, in their order"
        assert sum(map(is_random, rows)) == 4
        full += len(near) == 4 and [is_random(row) for row in rows] == [False, True] * 4
        assert len({normalized(text) for text in texts}) == len(rows)
        assert not any(guard.blocks((text,)) for text in texts)
        assert normalized(own[key][0]) not in {normalized(text) for text in texts}
        drawn |= {str(row["sentence"]) for row in rows if is_random(row)}
    assert full > 10, "other rows share no word with the bank"
    assert len(drawn) > 0.7 * len(CLEAN), "from all of the bank"


def test_what_is_drawn_depends_on_the_seed_and_the_row(tiny_corpus: Path, tmp_path: Path) -> None:
    inputs = searched(tmp_path, tiny_corpus, CLEAN)
    one, again, other = (
        table(inputs, tmp_path / name, k=4, random=0.5, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    texts = [[[row["sentence"] for row in rows] for rows in found.values()] for found in (one, again, other)]
    assert texts[0] == texts[1] != texts[2]
    assert len({tuple(row) for row in texts[0]}) > len(texts[0]) / 2


@pytest.mark.parametrize("sides", ["first", "second", "either", "both"])
def test_of_pairs_the_random_texts_replace_the_sides_that_neighbours_replace(
    sides: str, pairs_corpus: Path, tmp_path: Path
) -> None:
    inputs = searched(tmp_path, pairs_corpus, CLEAN)
    split = read_split(pairs_corpus, "train")
    pairs, replaced = dict(zip(split.keys, split.texts(), strict=True)), set()
    for key, rows in table(inputs, tmp_path / "out", k=8, random=0.5, sides=sides).items():
        first, second = pairs[key]
        for row in filter(is_random, rows):
            one, two = str(row["one"]), str(row["two"])
            assert row["candidate_key"] == row_key((one, two))
            replaced.add((one != first, two != second))
            assert {text for text, kept in ((one, first), (two, second)) if text != kept} <= set(CLEAN)
        assert sum(map(is_random, rows)) == 4
    expected = {"first": {(True, False)}, "second": {(False, True)}, "both": {(True, True)}}
    assert replaced == expected.get(sides, {(True, False), (False, True)})


def test_a_row_has_no_more_random_texts_than_its_share_and_further_neighbours_where_they_are_too_few(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    inputs = searched(tmp_path, tiny_corpus, CLEAN[:3])
    few = table(inputs, tmp_path / "few", k=4, random=0.9)
    assert all({row["sentence"] for row in rows} == set(CLEAN[:3]) for rows in few.values())
    bounded = table(inputs, tmp_path / "bounded", k=4, random=0.5, max_distance=0.01)
    assert all([is_random(row) for row in rows] == [True, True] for rows in bounded.values())
    pairs = {name: Candidate((name,), 0.1) for name in "abcde"}
    near, random = [pairs["a"], pairs["b"], pairs["c"]], [Candidate(("x",))]
    found = interleaved(near, random, frozenset({1, 3}), 4)
    assert [texts for (texts,) in (one.texts for one in found)] == ["a", "x", "b", "c"]
