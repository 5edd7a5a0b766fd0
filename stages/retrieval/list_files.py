"""The codes of vectors in inverted lists: a file a shard while an index is built, then all of them in one.

    scratch/codes-00000.npy   uint8 [rows, bytes], ordered by list and, within one, by row
    scratch/rows-00000.npy    int64 [rows], the rows of the bank that they are of; written last
    scratch/sizes-00000.npy   int64 [lists], how many of them each list has

The one file is FAISS's own of an index with inverted lists: what the index is, the size of each list, then each list's
codes and rows. FAISS can write it from memory alone (or beside a second file that it finds by name); here it is written
a part at a time, and FAISS maps it (``IO_FLAG_MMAP``). Needs no FAISS.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.resources import Worker
from stages.retrieval.index_plan import IndexBuild
from stages.retrieval.index_reader import FAISS

PART_BYTES = 128 * 2**20
"""In memory at a time while shards are merged; a single list may be more."""
EMPTY = b"ilar"
"""Begins the lists of a file: ``ilar``, how many lists, bytes a code, ``full`` or ``sprs``, sizes."""
EMPTY_BYTES = 32


def write_codes(build: IndexBuild, shard: int, codes: npt.NDArray[np.uint8], chosen: npt.NDArray[np.int64]) -> None:
    """Keep the codes [n, bytes] of a shard whose vectors chose these lists [n]."""
    order = np.argsort(chosen, kind="stable")
    values: dict[Path, npt.NDArray[Any]] = {
        build.codes(shard): codes[order],
        build.sizes(shard): np.bincount(chosen, minlength=build.plan.lists).astype(np.int64),
        build.rows(shard): order + build.plan.span(shard)[0],
    }
    for path, value in values.items():
        draft = path.with_name(path.name + ".tmp")
        with draft.open("wb") as file:
            np.save(file, value)
        os.replace(draft, path)


@dataclass(frozen=True)
class Coded:
    """A shard's codes, mapped. List i has ``starts[i]`` to ``starts[i + 1]``."""

    codes: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]


def merge_codes(build: IndexBuild, empty: bytes, worker: Worker) -> None:
    """Write the index's file. ``empty`` is that of an index with nothing in its lists, but with its count of rows."""
    shards = [_coded(build, shard) for shard in range(build.plan.shards)]
    sizes = np.stack([np.diff(shard.starts) for shard in shards]).sum(0)
    code_bytes = shards[0].codes.shape[1]
    parts = list(_parts(sizes * (code_bytes + 8)))
    draft = build.out / f"{FAISS}.tmp"
    with draft.open("wb") as file:
        file.write(_head(empty, sizes, code_bytes))
        for number, (first, last) in enumerate(parts):
            worker.note(f"merges {len(shards)} shards: part {number + 1} of {len(parts)}")
            for codes, rows in _merged(shards, first, last):
                file.write(codes.tobytes())
                file.write(rows.astype("<i8").tobytes())
    os.replace(draft, build.out / FAISS)


def _coded(build: IndexBuild, shard: int) -> Coded:
    sizes = np.load(build.sizes(shard))
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    codes, rows = (np.load(path, mmap_mode="r") for path in (build.codes(shard), build.rows(shard)))
    return Coded(codes, rows, starts)


def _head(empty: bytes, sizes: npt.NDArray[np.int64], code_bytes: int) -> bytes:
    """All that goes before the lists."""
    start = len(empty) - EMPTY_BYTES
    numbers = np.array([len(sizes), code_bytes], "<u8").tobytes()
    if empty[start : start + 20] != EMPTY + numbers:
        raise RuntimeError(
            "this FAISS writes empty inverted lists in another way; stages/retrieval/list_files.py must follow it"
        )
    return empty[:start] + EMPTY + numbers + b"full" + np.array([len(sizes), *sizes.tolist()], "<u8").tobytes()


def _parts(sizes: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Lists from, to: as many as fit into ``PART_BYTES``, one at least."""
    ends, first = np.cumsum(sizes), 0
    while first < len(sizes):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + PART_BYTES, side="right")))
        yield first, last
        first = last


def _merged(
    shards: Sequence[Coded], first: int, last: int
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
    """(codes, rows) of each of these lists, the rows in order."""
    spans = [slice(shard.starts[first], shard.starts[last]) for shard in shards]
    lists = np.concatenate([np.repeat(np.arange(first, last), np.diff(one.starts[first : last + 1])) for one in shards])
    order = np.argsort(lists, kind="stable")
    codes = np.concatenate([shard.codes[span] for shard, span in zip(shards, spans, strict=True)])[order]
    rows = np.concatenate([shard.rows[span] for shard, span in zip(shards, spans, strict=True)])[order]
    ends = np.cumsum(np.bincount(lists - first, minlength=last - first))
    for end, size in zip(ends.tolist(), np.diff(ends, prepend=0).tolist(), strict=True):
        yield codes[end - size : end], rows[end - size : end]
