"""The format of embeddings, and the reader of a model's vectors, which maps them. numpy alone.

    vectors-00000.npy   float16 [rows, width], scaled to length 1, in the order of the bank
    keys-00000.npy      uint8 [rows, 16], their row keys
    embeddings.json     kind (``model`` or ``tfidf``), width, rows of each shard, the encoder; written last

(TF-IDF has ``counts-*.npz`` and ``idf.npy`` instead of vectors: see ``stages/retrieval/tfidf.py``.)
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

META = "embeddings.json"
SHARD_ROWS = 16_384
"""Rows in a shard."""
SHARDS_OPEN = 256
"""Shards that stay mapped between two calls of ``gather``. Each takes a file descriptor, of which a process often has
1,024."""


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
        return _mapped(vectors_path(self.directory, number))

    @cached_property
    def _mapped_shards(self) -> Callable[[Path], npt.NDArray[np.float16]]:
        """``_mapped``, which keeps the last ``SHARDS_OPEN`` results: to map a shard anew costs more than to read some
        rows of it, as each page that is read must be entered in the process's page table again."""
        return lru_cache(SHARDS_OPEN)(_mapped)

    def __getstate__(self) -> dict[str, object]:
        """Without the mapped shards, which a copy in another process maps for itself."""
        return {name: value for name, value in vars(self).items() if name != "_mapped_shards"}

    def blocks(
        self, rows: int, first: int = 0, last: int | None = None
    ) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """(first row, vectors [at most ``rows``, width]) for the rows from ``first`` up to ``last`` (exclusive; all by
        default), in order. All blocks are in the same memory: the vectors are valid until the next block is taken."""
        last = self.rows if last is None else last
        buffer = np.empty((max(0, min(rows, last - first, max(self.shards, default=0))), self.width), np.float32)
        for number in range(len(self.shards)):
            start, end = int(self._starts[number]), int(self._starts[number + 1])
            if end <= first or start >= last:
                continue
            vectors = self.shard(number)
            for place in range(max(first, start), min(last, end), rows):
                stored = vectors[place - start : min(place + rows, last, end) - start]
                block = buffer[: len(stored)]
                np.copyto(block, stored)
                yield place, block

    def gather(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The vectors of these rows in the order given, [len(rows), width]."""
        found = np.empty((len(rows), self.width), np.float32)
        self._copy(rows, found)
        return found

    def gather_stored(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float16]:
        """As ``gather``, in the stored number type: half of the memory."""
        found = np.empty((len(rows), self.width), np.float16)
        self._copy(rows, found)
        return found

    def _copy(self, rows: npt.NDArray[np.int64], found: npt.NDArray[Any]) -> None:
        """Copy the vectors of these rows to ``found`` [len(rows), width]."""
        order = np.argsort(rows, kind="stable")  # each shard is then read once, front to back
        bounds = np.searchsorted(rows[order], self._starts)
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            places = order[bounds[number] : bounds[number + 1]]
            shard = self._mapped_shards(vectors_path(self.directory, number))
            found[places] = shard[rows[places] - self._starts[number]]


def _mapped(path: Path) -> npt.NDArray[np.float16]:
    mapped: npt.NDArray[np.float16] = np.load(path, mmap_mode="r")
    return mapped


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
