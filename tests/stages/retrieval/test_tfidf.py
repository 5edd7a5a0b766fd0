"""TF-IDF against scikit-learn's, and exact search against its brute force."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from banks import make_bank, sentences, texts_of, write_parquet
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.neighbors import NearestNeighbors
from training_setups import Interrupted, RecordingListener, inline

import stages.retrieval.embed
import stages.retrieval.embeddings_writer
from stages.corpus.row_key import row_key
from stages.retrieval.embed import embed
from stages.retrieval.embeddings import keys_path, read_embeddings
from stages.retrieval.tfidf import IDF, counts_path, open_tfidf
from stages.specs.retrieval import EmbedSpec, TfIdf

QUERIES = ["the lamp of number 17 hides every day", "engine engine engine river", "slowly, slowly today"]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (stages.retrieval.embed, stages.retrieval.embeddings_writer):
        monkeypatch.setattr(module, "SHARD_ROWS", 16)
    monkeypatch.setattr("stages.retrieval.tfidf.QUERIES_AT_ONCE", 2)


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    make_bank(tmp_path / "bank", write_parquet(tmp_path / "texts.parquet", [*sentences(70), "?! .. !!", "a b c d"]))
    return tmp_path / "bank"


def run(bank: Path, out: Path, heard: RecordingListener | None = None, **settings: int) -> dict[str, int]:
    out.mkdir(exist_ok=True)
    return embed(EmbedSpec(encoder=TfIdf(**settings)), {"bank": bank}, out, inline(heard))


def reference(texts: list[str], features: int, words: int) -> tuple[Callable[[list[str]], Any], np.ndarray]:
    """scikit-learn's own chain: hashed counts, then smooth idf over the bank."""
    hasher = HashingVectorizer(n_features=features, ngram_range=(1, words), alternate_sign=False, norm=None)
    transformer = TfidfTransformer(sublinear_tf=True).fit(hasher.transform(texts))
    return lambda some: transformer.transform(hasher.transform(some)), transformer.idf_


@pytest.mark.parametrize(("features", "words"), [(2**20, 2), (2**8, 1), (2**12, 3)])
def test_weights_and_neighbours_are_those_of_scikit_learn(
    bank: Path, tmp_path: Path, features: int, words: int
) -> None:
    facts = run(bank, tmp_path / "out", features=features, words=words)
    texts = [text for (text,) in texts_of(bank)]
    weigh, idf = reference(texts, features, words)
    search = open_tfidf(tmp_path / "out")
    assert np.allclose(np.load(tmp_path / "out" / IDF), idf, rtol=1e-6)
    queries = search.encode([(text,) for text in QUERIES])
    assert abs(queries - weigh(QUERIES)).max() < 1e-6
    cosines, rows = search.search(queries, 10)
    brute = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(weigh(texts))
    distances, _ = brute.kneighbors(weigh(QUERIES))
    assert cosines == pytest.approx(1 - distances, abs=1e-5)
    whole = (weigh(QUERIES) @ weigh(texts).T).toarray()
    assert np.take_along_axis(whole, rows, 1) == pytest.approx(cosines, abs=1e-5)
    assert (facts["rows"], facts["width"], facts["carried"]) == (72, features, 0)


def test_equal_texts_come_in_the_order_of_the_bank_across_shards(tmp_path: Path) -> None:
    texts = [f"{'same words here' if n % 5 == 0 else sentences(1, n)[0]} {'!' * n}" for n in range(40)]
    make_bank(tmp_path / "bank", write_parquet(tmp_path / "a.parquet", texts))
    run(tmp_path / "bank", tmp_path / "out")
    search = open_tfidf(tmp_path / "out")
    cosines, rows = search.search(search.encode([("same words here",)]), 6)
    assert rows[0].tolist() == [0, 5, 10, 15, 20, 25]
    assert cosines[0] == pytest.approx(np.ones(6), abs=1e-6)


def test_rows_without_a_shared_word_are_not_found(bank: Path, tmp_path: Path) -> None:
    run(bank, tmp_path / "out")
    search = open_tfidf(tmp_path / "out")
    cosines, rows = search.search(search.encode([("zebra",), ("number 17",), ("!?",)]), 100)
    assert (rows[0] == -1).all() and (cosines[0] == 0).all() and (rows[2] == -1).all()
    assert rows[1, 0] == 17 and (rows[1] >= 0).sum() == 70
    assert (np.diff(cosines[1]) <= 0).all()


def test_a_pair_has_the_words_of_both_and_no_neighbours_across_them(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": ["red green blue", "one two three"], "b": ["old new same", "four five six"]}), path)
    make_bank(tmp_path / "bank", path, text=("a", "b"))
    run(tmp_path / "bank", tmp_path / "out")
    search = open_tfidf(tmp_path / "out")
    assert search.encode([("red green blue", "old new same")]).nnz == 6 + 4
    assert search.search(search.encode([("nothing", "five six")]), 1)[1].tolist() == [[1]]


def test_a_cut_run_loses_no_finished_shard(bank: Path, tmp_path: Path) -> None:
    run(bank, tmp_path / "whole")

    def cut(done: float) -> None:
        if done > 40:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(bank, tmp_path / "out", RecordingListener(before_advance=cut))
    assert run(bank, tmp_path / "out")["embedded"] == 72 - 48
    for number in range(5):
        same = [counts_path(tmp_path / name, number).read_bytes() for name in ("whole", "out")]
        assert same[0] == same[1]
    keys = np.concatenate([np.load(keys_path(tmp_path / "out", number)) for number in range(5)])
    assert [row.tobytes() for row in keys] == [row_key(texts) for texts in texts_of(bank)]


def test_embeddings_of_a_model_are_not_searched_as_tfidf(tmp_path: Path) -> None:
    (tmp_path / "embeddings.json").write_text('{"kind": "model", "width": 4, "shards": []}')
    with pytest.raises(ValueError, match="those of a model, not tfidf"):
        open_tfidf(tmp_path)


def test_the_output_of_tfidf_is_pinned_to_its_version(bank: Path, tmp_path: Path) -> None:
    run(bank, tmp_path / "out", features=2**10)
    search = open_tfidf(tmp_path / "out")
    cosines, rows = search.search(search.encode([(QUERIES[0],)]), 4)
    assert EmbedSpec.version == 1 and read_embeddings(tmp_path / "out").kind == "tfidf"
    assert rows.tolist() == [[17, 1, 25, 49]]
    assert cosines[0] == pytest.approx([0.50755, 0.36718, 0.28024, 0.26898], abs=1e-4)
