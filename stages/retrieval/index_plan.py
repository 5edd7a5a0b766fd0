"""Chooses the kind of index for a number of vectors, and computes its size. Needs no FAISS.

    exact      no index file: a search reads all vectors, block by block
    ivf-flat   inverted lists of the vectors as they are stored, in float16
    ivf-sq8    inverted lists of codes of one byte per dimension
    ivf-pq     inverted lists of product-quantised codes, one byte for eight dimensions
    ivf-opq    as ivf-pq, after a rotation that reduces the quantisation error
    hnsw       a graph for each ``GRAPH_ROWS`` vectors

``auto`` chooses the first of exact, ivf-flat, ivf-sq8 and ivf-opq that is fast enough and fits into ``most_bytes``. It
never chooses graphs: following a link reads a random page, and a graph can only be built vector by vector.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from stages.corpus.reader import SCRATCH
from stages.specs.retrieval import IndexSpec

EXACT_ROWS = 2**17
"""Up to this many rows exact search is fast enough: at width 384 a query takes 0.1 GFLOP, and a core does 126 a second
(measured with AVX-512): about a thousand queries a second and core, and nothing has to be learnt."""
FEWEST_ROWS = 256
"""With fewer rows search is always exact, as they are too few to learn lists from."""
POINTS_PER_LIST = 40
"""Training vectors per list. FAISS warns below 39; the time to learn grows with them."""
SAMPLE_BYTES = 2 * 10**9
GRAPH_ROWS = 2**18
GRAPH_LINKS = 32
SHARD_ROWS = 2**17
"""Rows in a shard of the build: what an interrupted run loses at most, for each worker."""
DIMENSIONS_A_BYTE = 8
ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """The index to build. ``lists``: inverted lists, learnt from ``train_rows`` vectors; both are 0 for kinds without
    lists."""

    kind: str
    rows: int
    width: int
    lists: int
    train_rows: int

    @property
    def shard_rows(self) -> int:
        return GRAPH_ROWS if self.kind == "hnsw" else SHARD_ROWS

    @property
    def shards(self) -> int:
        return 0 if self.kind == "exact" else -(-self.rows // self.shard_rows)

    def span(self, shard: int) -> tuple[int, int]:
        """The rows of a shard: from, to."""
        return shard * self.shard_rows, min(self.rows, (shard + 1) * self.shard_rows)


@dataclass(frozen=True, slots=True)
class IndexBuild:
    """What a worker needs to build an index from the vectors in ``embeddings``. All its files are below ``out``."""

    plan: IndexPlan
    seed: int
    embeddings: Path
    out: Path

    @property
    def trained(self) -> Path:
        """The file of the trained index without vectors."""
        return self.out / SCRATCH / "trained.faiss"

    def shard_lists(self, shard: int) -> Path:
        """The inverted lists of one shard."""
        return self.out / SCRATCH / f"lists-{shard:05d}.ivfdata"


def planned(spec: IndexSpec, rows: int, width: int) -> IndexPlan:
    """The index that ``spec`` asks for. ValueError where none fits into ``most_bytes``."""
    if rows < FEWEST_ROWS:
        return IndexPlan("exact", rows, width, 0, 0)
    kind: str = spec.kind
    if kind == "auto":
        kind = _chosen(spec, rows, width)
    elif (needed := index_bytes(kind, rows, width, lists_for(spec, rows))) > spec.most_bytes:
        raise ValueError(
            f"most_bytes: {spec.most_bytes:,}, but {kind} of {rows:,} vectors takes {needed:,}; "
            "give that much, or kind: auto"
        )
    if kind in ("exact", "hnsw"):
        return IndexPlan(kind, rows, width, 0, 0)
    lists = lists_for(spec, rows)
    return IndexPlan(
        kind, rows, width, lists, min(rows, POINTS_PER_LIST * lists, max(lists, SAMPLE_BYTES // (4 * width)))
    )


def _chosen(spec: IndexSpec, rows: int, width: int) -> str:
    if rows <= EXACT_ROWS:
        return "exact"
    lists = lists_for(spec, rows)
    sizes = {kind: index_bytes(kind, rows, width, lists) for kind in ("ivf-flat", "ivf-sq8", "ivf-opq")}
    for kind, needed in sizes.items():
        if needed <= spec.most_bytes:
            return kind
    raise ValueError(
        f"most_bytes: {spec.most_bytes:,}, but the smallest index of {rows:,} vectors takes {sizes['ivf-opq']:,}; "
        "give that much"
    )


def lists_for(spec: IndexSpec, rows: int) -> int:
    """The number of lists: ``spec.lists``, or the power of two nearest to 4 * sqrt(rows); at most as many as can be
    learnt from ``rows`` vectors."""
    usual = 2 ** round(math.log2(4 * math.sqrt(rows)))
    return max(1, min(spec.lists or usual, rows // POINTS_PER_LIST))


def parts_of_code(width: int) -> int:
    """The number of parts into which product quantisation divides a vector: the bytes of its code."""
    return max(parts for parts in range(1, max(1, width // DIMENSIONS_A_BYTE) + 1) if width % parts == 0)


def index_bytes(kind: str, rows: int, width: int, lists: int) -> int:
    """Bytes of the index's files, within some percent. The vectors of the embeddings are not among them."""
    if kind == "exact":
        return 0
    if kind == "hnsw":
        return rows * (2 * width + 4 * 2 * GRAPH_LINKS + ID_BYTES + 4)
    code = {"ivf-flat": 2 * width, "ivf-sq8": width}.get(kind, parts_of_code(width))
    turned = 4 * width * width if kind == "ivf-opq" else 0
    return rows * (code + ID_BYTES) + 4 * width * lists + turned
