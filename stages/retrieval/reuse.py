"""Finds the rows whose vectors earlier embeddings hold, by row key, so that they can be copied. numpy alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.atomic import replacing
from stages.corpus.row_key import KEY_BYTES
from stages.retrieval.embeddings import Embeddings, keys_path, read_embeddings

Keys = npt.NDArray[np.uint8]
"""[rows, 16]."""


@dataclass(frozen=True, slots=True)
class Prior:
    """Earlier embeddings and ``index``, a sorted file of the first eight bytes of their row keys with the rows."""

    embeddings: Embeddings
    index: Path

    def find(self, keys: Keys) -> npt.NDArray[np.int64]:
        """The row with each key, or -1, [len(keys)]."""
        found = np.full(len(keys), -1, np.int64)
        index = np.load(self.index, mmap_mode="r")
        if not len(index):
            return found
        places = np.minimum(np.searchsorted(index["head"], heads(keys)), len(index) - 1)
        rows = index["row"][places]
        same = (self._keys(rows) == keys).all(1)
        found[same] = rows[same]
        return found

    def _keys(self, rows: npt.NDArray[np.int64]) -> Keys:
        ends = np.cumsum(np.array(self.embeddings.shards, np.int64))
        found = np.empty((len(rows), KEY_BYTES), np.uint8)
        shards = np.searchsorted(ends, rows, side="right")
        for number in np.unique(shards).tolist():
            places = np.flatnonzero(shards == number)
            start = ends[number] - self.embeddings.shards[number]
            mapped = np.load(keys_path(self.embeddings.directory, number), mmap_mode="r")
            found[places] = mapped[rows[places] - start]
        return found


def heads(keys: Keys) -> npt.NDArray[np.uint64]:
    """The first eight bytes of each key as a number. If two keys share them, one counts as not found, which costs only
    the time to embed its row again."""
    return np.ascontiguousarray(keys[:, :8]).view("<u8")[:, 0].astype(np.uint64)


def open_priors(directories: Sequence[Path], stated: Mapping[str, object], scratch: Path) -> list[Prior]:
    """The embeddings made with the encoder and settings in ``stated``. Embeddings that cannot be read, or were removed
    in the meantime, are skipped, and their rows embedded again."""
    found = []
    for number, directory in enumerate(directories):
        try:
            embeddings = read_embeddings(directory)
            if {name: embeddings.facts.get(name) for name in stated} == dict(stated):
                found.append(Prior(embeddings, _indexed(embeddings, scratch / f"prior-{number}.npy")))
        except (ValueError, OSError, KeyError):
            continue
    return found


def _indexed(embeddings: Embeddings, path: Path) -> Path:
    index = np.empty(embeddings.rows, np.dtype([("head", np.uint64), ("row", np.int64)]))
    start = 0
    for number, rows in enumerate(embeddings.shards):
        index["head"][start : start + rows] = heads(np.load(keys_path(embeddings.directory, number), mmap_mode="r"))
        start += rows
    index["row"] = np.arange(len(index))
    with replacing(path) as draft, draft.open("wb") as file:
        np.save(file, index[np.argsort(index["head"], kind="stable")])
    return path
