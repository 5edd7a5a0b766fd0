"""The format of embeddings, and the reader of a model's vectors, which maps them. numpy alone.

    vectors-00000.npy   float16 [rows, width], scaled to length 1, in the order of the bank
    keys-00000.npy      uint8 [rows, 16], their row keys
    embeddings.json     kind (``model`` or ``tfidf``), width, rows of each shard, the encoder; written last

(TF-IDF has ``counts-*.npz`` and ``idf.npy`` instead of vectors: see ``stages/retrieval/tfidf.py``.)
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

META = "embeddings.json"
SHARD_ROWS = 16_384
"""Rows in a shard."""


@dataclass(frozen=True)
class Embeddings:
    """Vectors of all rows of a bank. ``shards`` has the rows of each shard, ``facts`` the content of
    ``embeddings.json``."""

    directory: Path
    kind: str
    width: int
    shards: tuple[int, ...]
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(self.shards)

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.array(self.shards, np.int64))])

    def shard(self, number: int) -> npt.NDArray[np.float16]:
        """[rows, width], mapped."""
        mapped: npt.NDArray[np.float16] = np.load(vectors_path(self.directory, number), mmap_mode="r")
        return mapped

    def blocks(
        self, rows: int, first: int = 0, last: int | None = None
    ) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """(first row, vectors [at most ``rows``, width]) for the rows from ``first`` up to ``last`` (exclusive; all by
        default), in order."""
        last = self.rows if last is None else last
        for number in range(len(self.shards)):
            start, end = int(self._starts[number]), int(self._starts[number + 1])
            if end <= first or start >= last:
                continue
            vectors = self.shard(number)
            for place in range(max(first, start), min(last, end), rows):
                block = vectors[place - start : min(place + rows, last, end) - start]
                yield place, np.asarray(block, np.float32)

    def gather(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The vectors of these rows in the order given, [len(rows), width]."""
        found = np.empty((len(rows), self.width), np.float32)
        order = np.argsort(rows, kind="stable")  # each shard is then read once, front to back
        bounds = np.searchsorted(rows[order], self._starts)
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            places = order[bounds[number] : bounds[number + 1]]
            found[places] = self.shard(number)[rows[places] - self._starts[number]]
        return found


def vectors_path(directory: Path, number: int) -> Path:
    return directory / f"vectors-{number:05d}.npy"


def keys_path(directory: Path, number: int) -> Path:
    return directory / f"keys-{number:05d}.npy"


def read_embeddings(directory: Path) -> Embeddings:
    """ValueError where there are no finished embeddings."""
    path = directory / META
    if not path.is_file():
        raise ValueError(f"embeddings: {path} is not there; {directory} holds no finished embeddings")
    stated = json.loads(path.read_text("utf-8"))
    return Embeddings(directory, stated["kind"], stated["width"], tuple(stated["shards"]), stated)
