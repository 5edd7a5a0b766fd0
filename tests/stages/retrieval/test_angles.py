"""Angles between vectors, and those of what a search found."""

from pathlib import Path

import numpy as np
import pytest
from banks import make_bank, texts_of, write_parquet
from training_setups import inline
from vectors import mixture, write_embeddings

from stages.retrieval.angles import angles
from stages.retrieval.embed import embed
from stages.retrieval.embeddings import read_embeddings
from stages.retrieval.search import open_search
from stages.retrieval.tfidf import open_tfidf
from stages.specs.retrieval import EmbedSpec, TfIdf


def test_angles_are_shares_of_pi_exact_at_the_ends_and_blind_to_length() -> None:
    generator = np.random.Generator(np.random.PCG64(0))
    one, other = generator.normal(size=(2, 40, 8))
    cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert angles(one, other) == pytest.approx(np.arccos(cosine) / np.pi, rel=1e-12)
    assert angles(one, 3 * other) == pytest.approx(angles(one, other), rel=1e-12)
    assert (angles(one, one.copy()) == 0).all()
    assert angles(one, -one) == pytest.approx(1)
    assert angles(np.array([[1.0, 0.0]]), np.array([[0.0, 5.0]])) == pytest.approx(0.5)


@pytest.mark.parametrize("angle", [1e-9, 1e-6, 1e-3, 0.25, 0.5, 1 - 1e-6])
def test_small_angles_are_as_precise_as_large_ones(angle: float) -> None:
    """The arccos of a float64 cosine has 1e-9 as 0."""
    one, turn = np.array([1.0, 0.0]), np.pi * angle
    assert angles(one, np.array([np.cos(turn), np.sin(turn)])) == pytest.approx(angle, rel=1e-9)


def test_leading_axes_broadcast() -> None:
    queries, found = np.eye(3)[:2, None], np.ones((2, 4, 3))
    assert angles(queries, found) == pytest.approx(np.full((2, 4), np.arccos(3**-0.5) / np.pi))


def test_angles_of_what_a_search_found_are_those_of_the_stored_vectors(tmp_path: Path) -> None:
    """A vector is at 0 from itself but for float16, the bound of whose error holds; row -1 has no angle."""
    vectors = mixture(300, 16)
    embeddings = read_embeddings(write_embeddings(tmp_path / "e", vectors, shard=100))
    rows = np.array([[0, 299, -1], [150, 1, 150]])
    found = open_search(None, embeddings, threads=1).angles(vectors[[0, 150]], rows)
    exact = np.arccos(np.clip(vectors[[0, 150]].astype(np.float64) @ vectors.T.astype(np.float64), -1, 1)) / np.pi
    assert np.isnan(found[0, 2])
    assert found[0, :2] == pytest.approx(exact[0, [0, 299]], abs=1.6e-4)
    assert found[1] == pytest.approx(exact[1, rows[1]], abs=1.6e-4)


def test_tfidf_angles_are_those_of_dense_float64_vectors(tmp_path: Path) -> None:
    texts = ["red lamp", "red lamp and blue lamp", "blue engine", "red lamp"]
    make_bank(
        tmp_path / "bank", write_parquet(tmp_path / "texts.parquet", [f"{text} {n}" for n, text in enumerate(texts)])
    )
    (tmp_path / "e").mkdir()
    embed(EmbedSpec(encoder=TfIdf(features=4096)), {"bank": tmp_path / "bank"}, tmp_path / "e", inline())
    search = open_tfidf(tmp_path / "e")
    bank_texts = texts_of(tmp_path / "bank")
    bank = search.encode(bank_texts).toarray().astype(np.float64)
    rows = np.array([[0, 1, 2, -1], [2, 0, -1, 1]])
    found = search.angles(search.encode([bank_texts[0], bank_texts[2]]), rows)
    for place, query in enumerate((0, 2)):
        for column, row in enumerate(rows[place]):
            expected = np.nan if row < 0 else angles(bank[query], bank[row])
            assert found[place, column] == pytest.approx(expected, abs=1e-7, nan_ok=True)
    assert found[0, 0] == found[1, 0] == 0
