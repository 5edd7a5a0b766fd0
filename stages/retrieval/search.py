"""Searches the vectors of a bank, exactly or through an index, and orders what is found by exact cosines.

A cosine is the product of a query and a float16 vector as it is stored, computed pair by pair, so it does not depend on
the other queries of a call. Of equal cosines the lower row comes first (among ``TIES`` more rows than requested).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np
import numpy.typing as npt

from stages.retrieval.angles import angles
from stages.retrieval.embeddings import Embeddings
from stages.retrieval.index_reader import IndexMeta, graph_path, read_index_meta
from stages.retrieval.inverted_lists import read_index

Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

TIES = 8
"""Rows found beyond the requested number, as FAISS returns equal cosines in any order."""
BLOCK = 16_384
"""Vectors in memory at a time when all are read."""
QUERY_BYTES = 16 * 2**20
"""Bytes of vectors in memory at a time while found rows are ordered. The C library returns larger blocks to the system,
and to get them again costs more than to fill them."""
CACHED_BYTES = 2**20
"""Bytes of found vectors that are converted to float32 and multiplied at a time, while the processor caches them."""
ROUNDING = 2.0**-21
"""Two cosines of the same vectors of length 1, computed in float32 in different orders of addition, differ by at most
width * 2**-23. Rows are left out where their cosines differ by more than width * ``ROUNDING``: four times as much, as
both may be off, and as lengths are only nearly 1."""
MOST_QUERIES = 4096
"""Queries searched at a time."""
MOST_ON_GPU = 2048
"""The most neighbours of a query that FAISS finds on a GPU; for more, the search runs on the CPU."""


@dataclass(frozen=True, slots=True)
class Found:
    """``rows`` [n, wide] that a finder found, the nearest first; -1 where there are fewer. ``cosines``: their cosines,
    computed in float32 from the stored vectors; None where the finder's codes are less precise than these."""

    rows: Rows
    cosines: Vectors | None = None


class RowFinder(Protocol):
    """Finds rows near to queries, the nearest first up to the precision of its codes."""

    def find(self, queries: Vectors, wide: int, k: int) -> Found:
        """``wide`` rows for each query. ``k``: how many of them the caller returns in the end."""
        ...


class Search:
    """Finds the vectors of a bank that are nearest to queries of length 1. ``widen``: see ``IndexMeta``."""

    def __init__(self, embeddings: Embeddings, finder: RowFinder, widen: int = 1) -> None:
        self.embeddings = embeddings
        self.finder = finder
        self.widen = widen

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, Rows]:
        """(cosines, rows), each [n, k], the nearest first; NaN and -1 where there are fewer."""
        cosines = np.full((len(queries), k), np.nan, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        wide = min(self.embeddings.rows, max(k * self.widen, k + TIES))
        count = min(k, wide)
        if not count:
            return cosines, rows
        for start in range(0, len(queries), MOST_QUERIES):
            some = slice(start, start + MOST_QUERIES)
            found = self.finder.find(queries[some], wide, k)
            cosines[some, :count], rows[some, :count] = nearest(self.embeddings, queries[some], found, count)
        return cosines, rows

    def angles(self, queries: Vectors, rows: Rows) -> Vectors:
        """The angles between queries [n, width] and the rows [n, k] found for them, as shares of pi; NaN for row -1.

        Precise but for the float16 of the stored vectors: a component is off by a share of 2**-11 at most, so an angle
        by 1.6e-4. The order of ``search`` is that of the cosines, and may differ for angles as near to each other.
        """
        found = np.full(rows.shape, np.nan, np.float32)
        step = max(1, QUERY_BYTES // (8 * self.embeddings.width * rows.shape[1]))
        for start in range(0, len(rows), step):
            place, column = np.nonzero(rows[start : start + step] >= 0)
            place += start
            vectors = self.embeddings.gather(rows[place, column])
            found[place, column] = angles(queries[place], vectors)
        return found


def nearest(embeddings: Embeddings, queries: Vectors, found: Found, k: int) -> tuple[Vectors, Rows]:
    """(cosines, rows), each [n, k]: of the rows found, those with the highest exact cosines, the highest first."""
    cosines, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    step = max(1, QUERY_BYTES // (2 * embeddings.width * found.rows.shape[1]))
    for start in range(0, len(queries), step):
        some = slice(start, start + step)
        columns = found.rows.shape[1]
        if found.cosines is not None:
            columns = columns_needed(found.cosines[some], k, embeddings.width)
        ordered = by_cosine(embeddings, queries[some], found.rows[some, :columns])
        cosines[some], rows[some] = (values[:, :k] for values in ordered)
    return cosines, rows


def columns_needed(cosines: Vectors, k: int, width: int) -> int:
    """The number of columns of ``cosines`` [n, wide], in descending order and rounded in any way, that hold the ``k``
    highest exact cosines of each row."""
    too_low = cosines < cosines[:, k - 1 : k] - width * ROUNDING
    return int(cosines.shape[1] - too_low.sum(1).min())


def by_cosine(embeddings: Embeddings, queries: Vectors, rows: Rows) -> tuple[Vectors, Rows]:
    """(cosines, rows), each [n, k]: the given rows, ordered by their exact cosines with the queries."""
    cosines = np.empty(rows.shape, np.float32)
    stored = embeddings.gather_stored(np.maximum(rows, 0).reshape(-1)).reshape(*rows.shape, embeddings.width)
    step = max(1, CACHED_BYTES // (4 * embeddings.width * rows.shape[1]))
    for start in range(0, len(rows), step):
        some = slice(start, start + step)
        cosines[some] = np.vecdot(stored[some].astype(np.float32), queries[some, None])
    missing = rows < 0
    order = np.lexsort((rows, np.where(missing, np.inf, -cosines)), axis=-1)
    cosines[missing] = np.nan
    return np.take_along_axis(cosines, order, 1), np.take_along_axis(rows, order, 1)


class ExactSearch:
    """Compares queries with all vectors, a block at a time, on a GPU where FAISS has one."""

    def __init__(self, embeddings: Embeddings, device: str = "cpu") -> None:
        self.embeddings = embeddings
        self.gpu = faiss.StandardGpuResources() if device.startswith("cuda") and faiss.get_num_gpus() else None

    def find(self, queries: Vectors, wide: int, k: int) -> Found:  # noqa: ARG002
        best = faiss.ResultHeap(len(queries), wide, keep_max=True)
        for first, block in self.embeddings.blocks(BLOCK):
            cosines, rows = self._knn(queries, block, min(wide, len(block)))
            best.add_result(cosines, rows + first)
        best.finalize()
        return Found(best.I)

    def _knn(self, queries: Vectors, block: Vectors, k: int) -> tuple[Vectors, Rows]:
        metric = faiss.METRIC_INNER_PRODUCT
        if self.gpu is not None and k <= MOST_ON_GPU:
            cosines, rows = faiss.knn_gpu(self.gpu, queries, block, k, metric=metric)
        else:
            cosines, rows = faiss.knn(queries, block, k, metric=metric)
        return cosines, rows


class ListSearch:
    """Searches ``probe`` inverted lists, and more where these hold too few rows."""

    def __init__(self, directory: Path, probe: int) -> None:
        self.index = read_index(directory)
        self.lists: Any = faiss.downcast_index(faiss.extract_index_ivf(self.index))
        self.probe = probe
        quantiser = getattr(self.lists, "sq", None)
        self.precise = quantiser is not None and quantiser.qtype == faiss.ScalarQuantizer.QT_fp16

    def find(self, queries: Vectors, wide: int, k: int) -> Found:
        count = int(self.lists.nlist)
        probe = min(count, max(self.probe, -(-4 * k * count // max(1, self.index.ntotal))))
        cosines, rows = self._visit(queries, wide, probe)
        while probe < count and (short := np.flatnonzero(rows[:, -1] < 0)).size:
            probe = min(count, 2 * probe)
            cosines[short], rows[short] = self._visit(queries[short], wide, probe)
        return Found(rows, cosines if self.precise else None)

    def _visit(self, queries: Vectors, wide: int, probe: int) -> tuple[Vectors, Rows]:
        self.lists.nprobe = probe
        cosines, rows = self.index.search(queries, wide)
        return cosines, rows


class GraphSearch:
    """Searches every graph with an efSearch of at least ``probe``, and merges the results."""

    def __init__(self, directory: Path, meta: IndexMeta, probe: int) -> None:
        self.graphs: list[Any] = []
        while (path := graph_path(directory, len(self.graphs))).is_file():
            self.graphs.append(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC))
        if sum(graph.ntotal for graph in self.graphs) != meta.rows:
            raise ValueError(f"{directory}: its graphs do not hold {meta.rows:,} vectors; build the index again")
        self.probe = probe

    def find(self, queries: Vectors, wide: int, k: int) -> Found:  # noqa: ARG002
        best = faiss.ResultHeap(len(queries), wide, keep_max=True)
        parameters = faiss.SearchParametersHNSW(efSearch=max(self.probe, wide))  # type: ignore[attr-defined]
        first = 0
        for graph in self.graphs:
            cosines, rows = graph.search(queries, min(wide, graph.ntotal), params=parameters)
            best.add_result(np.where(rows < 0, -np.inf, cosines), np.where(rows < 0, -1, rows + first))
            first += graph.ntotal
        best.finalize()
        return Found(best.I)


def open_finder(directory: Path, meta: IndexMeta, embeddings: Embeddings, device: str) -> RowFinder:
    match meta.kind:
        case "exact":
            return ExactSearch(embeddings, device)
        case "hnsw":
            return GraphSearch(directory, meta, meta.probe)
        case _:
            return ListSearch(directory, meta.probe)


def open_search(index_dir: Path | None, embeddings: Embeddings, threads: int, device: str = "cpu") -> Search:
    """A search through an index, or through all vectors where ``index_dir`` is None. ValueError for an index of other
    embeddings."""
    faiss.omp_set_num_threads(threads)
    if index_dir is None:
        return Search(embeddings, ExactSearch(embeddings, device))
    meta = read_index_meta(index_dir)
    if (meta.rows, meta.width) != (embeddings.rows, embeddings.width):
        raise ValueError(
            f"index: {meta.rows:,} vectors of width {meta.width}, but the embeddings are {embeddings.rows:,} of width "
            f"{embeddings.width}; index these"
        )
    return Search(embeddings, open_finder(index_dir, meta, embeddings, device), meta.widen)
