"""TF-IDF embeddings of a bank: hashed words and runs of adjacent words, searched exactly. Needs no model.

    counts-00000.npz   scipy.sparse CSR [rows, features]: counts of each hashed word in each row of the bank
    keys-00000.npy     uint8 [rows, 16], the row keys
    idf.npy            float32 [features]: ln((1 + n) / (1 + rows with the word)) + 1: the smooth idf of scikit-learn
    embeddings.json    kind ``tfidf``, width (the features), rows of each shard, settings; written last

The weights of a row are (1 + ln count) x idf, scaled to length 1. They are computed when a shard is read, so that a
shard does not depend on the others. The words of both texts of a pair are in one row; no run of words spans both texts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.resources import On, Worker
from stages.atomic import replacing
from stages.retrieval.angles import share_of_pi
from stages.retrieval.embeddings import Embeddings, keys_path, read_embeddings
from stages.retrieval.embeddings_writer import EmbedJob, save_array, shard_keys, shard_texts, write_meta
from stages.specs.retrieval import TfIdf

Sparse = Any
"""A CSR matrix of scipy, whose class cannot be named here without importing it."""

IDF = "idf.npy"
QUERIES_AT_ONCE = 256
"""Queries compared with a shard at a time; their scores take 16 MiB."""


def counts_path(directory: Path, number: int) -> Path:
    return directory / f"counts-{number:05d}.npz"


# --- writing --------------------------------------------------------------------------------------------


def embed_counts(encoder: TfIdf, bank: Path, out: Path, on: On, shards: list[int]) -> dict[str, int]:
    """The stage ``embed`` for TF-IDF. Counting is cheap, so nothing is carried over from earlier embeddings."""
    missing = [number for number, rows in enumerate(shards) if not _finished(out, number, rows)]
    left = sum(shards[number] for number in missing)
    on.expect(left, "rows")
    width = encoder.features
    config = EmbedJob(encoder, None, bank, out, sum(shards), width)
    for _ in on.map(open_count_writer, config, missing):
        pass
    ((_, idf),) = on.map(open_idf_writer, config, [len(shards)])
    write_meta(
        out, {"kind": encoder.kind, "width": width, "encoder": encoder.model_dump(mode="json"), "shards": shards}
    )
    size = sum(path(out, number).stat().st_size for number in range(len(shards)) for path in (counts_path, keys_path))
    return {"rows": sum(shards), "embedded": left, "carried": 0, "width": width, "bytes": size + idf}


def _finished(out: Path, number: int, rows: int) -> bool:
    """Whether an earlier attempt wrote that shard. Its keys are written last."""
    try:
        return len(np.load(keys_path(out, number), mmap_mode="r")) == rows and counts_path(out, number).is_file()
    except (ValueError, OSError, EOFError):
        return False


def open_count_writer(config: EmbedJob, worker: Worker) -> Callable[[int], None]:
    """Return a function that writes the counts of one shard."""
    from scipy import sparse

    assert isinstance(config.encoder, TfIdf)
    count = counter(config.encoder)

    def write(number: int) -> None:
        texts = shard_texts(config.bank, number, config.rows)
        with replacing(counts_path(config.out, number)) as draft, draft.open("wb") as file:
            sparse.save_npz(file, count(texts), compressed=False)
        save_array(keys_path(config.out, number), shard_keys(texts))
        worker.advance(len(texts))

    return write


def open_idf_writer(config: EmbedJob, worker: Worker) -> Callable[[int], int]:
    """Return a function that writes ``idf.npy`` from the first ``shards`` shards and returns its bytes."""
    from scipy import sparse

    def write(shards: int) -> int:
        worker.note("counts the rows that have each word")
        having = np.zeros(config.width, np.int64)
        for number in range(shards):
            counts = sparse.load_npz(counts_path(config.out, number))
            having += np.bincount(counts.indices, minlength=len(having))
        idf = np.log((1 + config.rows) / (1 + having)) + 1
        save_array(config.out / IDF, idf.astype(np.float32))
        return (config.out / IDF).stat().st_size

    return write


def counter(encoder: TfIdf) -> Callable[[Sequence[Sequence[str]]], Sparse]:
    """Return a function texts -> counts, CSR float32 [len(texts), features], of hashed words of at least two characters
    and of runs of up to ``words`` adjacent words."""
    from sklearn.feature_extraction.text import HashingVectorizer

    hasher = HashingVectorizer(
        n_features=encoder.features,
        ngram_range=(1, encoder.words),
        alternate_sign=False,
        norm=None,
        dtype=np.float32,
    )

    def count(texts: Sequence[Sequence[str]]) -> Sparse:
        columns = zip(*texts, strict=True)
        total = sum(hasher.transform(column) for column in columns)
        total.sum_duplicates()
        return total

    return count


# --- searching ------------------------------------------------------------------------------------------


def open_tfidf(directory: Path) -> "TfIdfSearch":
    """The search in TF-IDF embeddings. ValueError where there are no finished ones of this kind."""
    embeddings = read_embeddings(directory)
    if embeddings.kind != "tfidf":
        raise ValueError(f"embeddings: {directory} holds those of a {embeddings.kind}, not tfidf; search their index")
    encoder = TfIdf.model_validate(embeddings.facts["encoder"])
    return TfIdfSearch(embeddings, encoder, np.load(directory / IDF))


@dataclass(frozen=True, slots=True)
class TfIdfSearch:
    """Exact search by cosine, in one shard at a time."""

    embeddings: Embeddings
    encoder: TfIdf
    idf: npt.NDArray[np.float32]

    def encode(self, texts: Sequence[Sequence[str]], _saved: object = None) -> Sparse:
        """CSR float32 [len(texts), features], scaled to length 1; all 0 for a text without words."""
        return self._weighed(counter(self.encoder)(texts))

    def search(self, queries: Sparse, k: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """(cosines, rows of the bank), each [queries, k], the highest cosine first, of equal ones the lower row. Rows
        that share no word with a query are not found; where fewer than ``k`` are, the rest is row -1 with cosine 0."""
        from scipy import sparse

        scores = np.zeros((queries.shape[0], k), np.float32)
        rows = np.full((queries.shape[0], k), -1, np.int64)
        start = 0
        for number, count in enumerate(self.embeddings.shards):
            shard = self._weighed(sparse.load_npz(counts_path(self.embeddings.directory, number))).T.tocsr()
            for first in range(0, queries.shape[0], QUERIES_AT_ONCE):
                block = slice(first, first + QUERIES_AT_ONCE)
                found = (queries[block] @ shard).toarray()
                for place, cosines in enumerate(found, start=first):
                    scores[place], rows[place] = _best(scores[place], rows[place], cosines, start, k)
            start += count
        return np.minimum(scores, 1, dtype=np.float32), rows

    def angles(self, queries: Sparse, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The angles between queries and the rows [queries, k] found for them, as shares of pi; NaN for row -1. Precise
        but for the float32 of the weights, which moves an angle by some 1e-7 at most."""
        from scipy import sparse

        found = np.full(rows.shape, np.nan, np.float32)
        start = 0
        for number, count in enumerate(self.embeddings.shards):
            place, column = np.nonzero((rows >= start) & (rows < start + count))
            if len(place):
                shard = self._weighed(sparse.load_npz(counts_path(self.embeddings.directory, number)))
                one, other = _unit(queries[place]), _unit(shard[rows[place, column] - start])
                found[place, column] = share_of_pi(_lengths(one - other), _lengths(one + other))
            start += count
        return found

    def _weighed(self, counts: Sparse) -> Sparse:
        weights = counts.astype(np.float32)
        weights.data = (1 + np.log(weights.data)) * self.idf[weights.indices]
        lengths = np.sqrt(np.asarray(weights.multiply(weights).sum(1)).ravel())
        weights.data /= np.repeat(lengths, np.diff(weights.indptr)).astype(np.float32)
        return weights


def _unit(vectors: Sparse) -> Sparse:
    """Rows scaled to length 1 in float64."""
    scaled = vectors.astype(np.float64)
    scaled.data /= np.repeat(_lengths(scaled), np.diff(scaled.indptr))
    return scaled


def _lengths(vectors: Sparse) -> npt.NDArray[np.float64]:
    return np.asarray(np.sqrt(vectors.multiply(vectors).sum(1)), np.float64).ravel()


def _best(
    scores: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], cosines: npt.NDArray[np.float32], start: int, k: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The best ``k`` of the sorted ``scores`` and ``rows`` found so far and of the ``cosines`` of a shard that begins
    at row ``start``."""
    worth = np.flatnonzero(cosines > scores[-1])
    if len(worth) > k:
        least = np.partition(cosines[worth], -k)[-k]
        worth = worth[cosines[worth] >= least]
    together = np.concatenate([scores, cosines[worth]])
    numbers = np.concatenate([rows, start + worth])
    order = np.argsort(-together, kind="stable")[:k]
    return together[order], numbers[order]
