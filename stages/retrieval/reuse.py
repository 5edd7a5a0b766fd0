"""Vectors of earlier banks that are copied bit by bit: which rows have one, found by their keys. numpy alone."""

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
    """Earlier embeddings, and a file of their keys: their first eight bytes in order, and whose rows they are."""

    embeddings: Embeddings
    index: Path

    def find(self, keys: Keys) -> npt.NDArray[np.int64]:
        """[len(keys)]: the row that has this key, or -1."""
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
    """The first eight bytes of each key as a number. Two keys that share them count as unknown: no harm but work."""
    return np.ascontiguousarray(keys[:, :8]).view("<u8")[:, 0].astype(np.uint64)


def open_priors(directories: Sequence[Path], stated: Mapping[str, object], scratch: Path) -> list[Prior]:
    """Those embeddings whose own facts agree with ``stated``: encoder and settings. What cannot be read, or was removed
    meanwhile, is passed over: its rows are embedded anew."""
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
