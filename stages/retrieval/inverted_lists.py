"""Inverted lists on disk: those of each shard while an index is built, then those of the whole index.

FAISS maps them (``OnDiskInvertedLists``), so that neither merging nor searching holds them in memory. They are two
files: ``<name>.ivfdata``, the codes and row numbers of one list after the other, and ``<name>.sizes.npy``, uint64
[lists], the rows in each list.

``faiss.contrib.ondisk.merge_ondisk`` and ``IO_FLAG_ONDISK_SAME_DIR`` do the same, but print a line to the process's
stdout at each merge and at each read, and a full disk kills the merging process with SIGBUS instead of an OSError.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from stages.atomic import replacing
from stages.retrieval.index_reader import FAISS, LISTS, sizes_path

ROW_BYTES = 8
"""A row number in an inverted list is an int64."""


def write_lists(lists: Any, path: Path) -> int:
    """Write inverted lists of FAISS to ``path`` and, last, their sizes to ``sizes_path(path)``; return their rows.
    In memory is one list at a time. OSError where the disk has no room."""
    sizes = np.array([lists.list_size(number) for number in range(lists.nlist)], np.uint64)
    rows = int(sizes.sum())
    with replacing(path) as draft:
        with draft.open("wb") as file:
            if rows:
                os.posix_fallocate(file.fileno(), 0, rows * (lists.code_size + ROW_BYTES))
        written = _mapped(draft, sizes, lists.code_size, read_only=False)
        for number in np.flatnonzero(sizes).tolist():
            ids, codes = lists.get_ids(number), lists.get_codes(number)
            written.update_entries(number, 0, int(sizes[number]), ids, codes)
            lists.release_ids(number, ids)
            lists.release_codes(number, codes)
        del written
    with replacing(sizes_path(path)) as draft, draft.open("wb") as file:
        np.save(file, sizes)
    return rows


def merge_lists(index: Any, shards: Sequence[Path], directory: Path) -> None:
    """Write the files of an index to ``directory``, ``index.faiss`` last. ``index`` is trained and has empty lists;
    ``shards`` are files of ``write_lists``. A merged list has the rows of the first shard, then of the second, ..."""
    inside = faiss.extract_index_ivf(index)
    parts = [_mapped(path, np.load(sizes_path(path)), inside.code_size) for path in shards]
    pointers = faiss.InvertedListsPtrVector()  # type: ignore[attr-defined]
    for part in parts:
        pointers.push_back(part)
    merged = faiss.HStackInvertedLists(pointers.size(), pointers.data())
    index.ntotal = inside.ntotal = write_lists(merged, directory / LISTS)
    with replacing(directory / FAISS) as draft:
        faiss.write_index(index, str(draft))


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


def _mapped(path: Path, sizes: npt.NDArray[np.uint64], code_bytes: int, read_only: bool = True) -> Any:
    """The inverted lists in the file ``path``, which FAISS maps. ValueError where it has not the bytes of its lists."""
    expected, size = int(sizes.sum()) * (code_bytes + ROW_BYTES), path.stat().st_size
    if size != expected:
        raise ValueError(f"{path}: {size:,} bytes, but its lists take {expected:,}; build the index again")
    lists: Any = faiss.OnDiskInvertedLists(len(sizes), code_bytes, str(path))
    lists.read_only = read_only
    lists.set_all_lists_sizes(faiss.swig_ptr(sizes))
    lists.totsize = size
    if size:
        lists.do_mmap()
    return lists
