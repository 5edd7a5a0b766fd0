"""Inverted lists on disk: those of each shard while an index is built, then those of the whole index.

FAISS maps them (``OnDiskInvertedLists``), so that neither merging nor searching holds them in memory. They are two
files: ``<name>.ivfdata``, the codes and row numbers of one list after the other, and ``<name>.sizes.npy``, uint64
[lists], the rows in each list.

``faiss.contrib.ondisk.merge_ondisk`` and ``IO_FLAG_ONDISK_SAME_DIR`` do the same, but print a line to the process's
stdout at each merge and at each read, and a full disk kills the merging process with SIGBUS instead of an OSError.
"""

import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from stages.atomic import replacing
from stages.retrieval.index_reader import FAISS, LISTS, sizes_path

ROW_BYTES = 8
"""A row number in an inverted list is an int64."""
WRITTEN_AT_ONCE = 2**20
"""Bytes collected before they are written."""


def write_lists(lists: Any, path: Path) -> int:
    """Write inverted lists of FAISS that are in memory to ``path`` and, last, their sizes to ``sizes_path(path)``;
    return their rows. OSError where the disk has no room."""
    sizes = np.array([lists.list_size(number) for number in range(lists.nlist)], np.uint64)

    def in_order() -> Iterator[memoryview]:
        for number in np.flatnonzero(sizes).tolist():
            count = int(sizes[number])
            yield faiss.rev_swig_ptr(lists.get_codes(number), count * lists.code_size).data
            yield faiss.rev_swig_ptr(lists.get_ids(number), count).data

    return _write(in_order(), sizes, lists.code_size, path)


def _write(pieces: Iterable[memoryview], sizes: npt.NDArray[np.uint64], code_bytes: int, path: Path) -> int:
    """Write the bytes of lists of these sizes to ``path`` and, last, the sizes to ``sizes_path(path)``; return their
    rows. The file is written, not mapped: each new page of a mapped file costs a page fault, and these took most of the
    time of a merge."""
    rows = int(sizes.sum())
    with replacing(path) as draft, draft.open("wb", WRITTEN_AT_ONCE) as file:
        if rows:
            os.posix_fallocate(file.fileno(), 0, rows * (code_bytes + ROW_BYTES))
        for piece in pieces:
            file.write(piece)
    with replacing(sizes_path(path)) as draft, draft.open("wb") as file:
        np.save(file, sizes)
    return rows


def merge_lists(index: Any, shards: Sequence[Path], directory: Path) -> None:
    """Write the files of an index to ``directory``, ``index.faiss`` last. ``index`` is trained and has empty lists;
    ``shards`` are files of ``write_lists``, of which nothing is held in memory. A merged list has the rows of the first
    shard, then of the second, ..."""
    inside = faiss.extract_index_ivf(index)
    code_bytes, sizes = inside.code_size, [np.load(sizes_path(path)) for path in shards]
    pieces = _merged(shards, sizes, code_bytes)
    index.ntotal = inside.ntotal = _write(pieces, np.sum(sizes, axis=0), code_bytes, directory / LISTS)
    with replacing(directory / FAISS) as draft:
        faiss.write_index(index, str(draft))


def _merged(shards: Sequence[Path], sizes: Sequence[npt.NDArray[np.uint64]], code_bytes: int) -> Iterator[memoryview]:
    """The bytes of each list of all shards: the codes of each shard, then the row numbers of each."""
    mapped = [_mapped_bytes(path, each, code_bytes) for path, each in zip(shards, sizes, strict=True)]
    starts = [0] * len(mapped)
    for counts in np.stack(sizes, axis=1).tolist():
        middles = [start + count * code_bytes for start, count in zip(starts, counts, strict=True)]
        ends = [middle + count * ROW_BYTES for middle, count in zip(middles, counts, strict=True)]
        yield from (one[start:middle] for one, start, middle in zip(mapped, starts, middles, strict=True))
        yield from (one[middle:end] for one, middle, end in zip(mapped, middles, ends, strict=True))
        starts = ends


def _mapped_bytes(path: Path, sizes: npt.NDArray[np.uint64], code_bytes: int) -> memoryview:
    _check_size(path, sizes, code_bytes)
    if not sizes.any():
        return memoryview(b"")
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def read_index(directory: Path) -> Any:
    """The FAISS index that ``merge_lists`` wrote, with its lists mapped. Its files may have been moved to another
    directory since, and may be read-only."""
    index = faiss.read_index(str(directory / FAISS))
    inside = faiss.extract_index_ivf(index)
    path = directory / LISTS
    lists = _mapped(path, np.load(sizes_path(path)), inside.code_size)
    lists.prefetch_nthread = 0  # prefetching takes 40 % of a search whose lists are in the page cache (measured)
    inside.replace_invlists(lists, True)
    lists.this.disown()  # the index deletes them now
    return index


def _check_size(path: Path, sizes: npt.NDArray[np.uint64], code_bytes: int) -> int:
    """The bytes of the file ``path``. ValueError where they are not those of its lists."""
    expected, size = int(sizes.sum()) * (code_bytes + ROW_BYTES), path.stat().st_size
    if size != expected:
        raise ValueError(f"{path}: {size:,} bytes, but its lists take {expected:,}; build the index again")
    return size


def _mapped(path: Path, sizes: npt.NDArray[np.uint64], code_bytes: int) -> Any:
    """The inverted lists in the file ``path``, which FAISS maps. ValueError where it has not the bytes of its lists."""
    size = _check_size(path, sizes, code_bytes)
    lists: Any = faiss.OnDiskInvertedLists(len(sizes), code_bytes, str(path))
    lists.read_only = True
    lists.set_all_lists_sizes(faiss.swig_ptr(sizes))
    lists.totsize = size
    if size:
        lists.do_mmap()
    return lists
