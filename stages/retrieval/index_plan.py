"""Which kind of index suits so many vectors, and what it takes. Needs no FAISS.

    exact      no file: the vectors are read through, block by block
    ivf-flat   inverted lists of the vectors as they are stored, in float16
    ivf-sq8    ... of one byte a dimension
    ivf-pq     ... product-quantised, a byte for eight dimensions; ivf-opq turns them first so that less is lost
    hnsw       a graph for each ``GRAPH_ROWS`` vectors

``auto`` takes the first of exact, ivf-flat, ivf-sq8 and ivf-opq that is quick enough and fits. It takes no graph: each
link that is followed is a page read somewhere else, and a graph grows by its vectors one after another.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from stages.corpus.reader import SCRATCH
from stages.specs.retrieval import IndexSpec

EXACT_ROWS = 2**17
"""Up to here reading all vectors is quick: at width 384 a query takes 0.1 GFLOP, and a core does 126 a second (measured
with AVX-512): about a thousand queries a second and core, and nothing has to be learnt."""
FEWEST_ROWS = 256
"""Fewer are always read through: there is nothing to learn lists from."""
POINTS = 40
"""Training vectors a list: FAISS wants 39 at least, and time grows with them."""
SAMPLE_BYTES = 2 * 10**9
GRAPH_ROWS = 2**18
LINKS = 32
SHARD_ROWS = 2**17
"""Rows that are added at a time. A run that is cut loses no more."""
DIMENSIONS_A_BYTE = 8
ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """What will be built: ``lists`` are learnt from ``train_rows`` vectors; both are 0 for a kind without lists."""

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
    """What a worker needs to know to build an index. All that a run leaves lies below ``out``."""

    plan: IndexPlan
    seed: int
    embeddings: Path
    out: Path

    @property
    def trained(self) -> Path:
        """The index with nothing in it."""
        return self.out / SCRATCH / "trained.faiss"

    def shard_lists(self, shard: int) -> Path:
        """The inverted lists of one shard."""
        return self.out / SCRATCH / f"lists-{shard:05d}.ivfdata"


def planned(spec: IndexSpec, rows: int, width: int) -> IndexPlan:
    """ValueError where nothing fits into ``most_bytes``."""
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
    return IndexPlan(kind, rows, width, lists, min(rows, POINTS * lists, max(lists, SAMPLE_BYTES // (4 * width))))


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
    """As asked for, or the power of two next to 4 x sqrt(rows); no more than can be learnt from so many rows."""
    usual = 2 ** round(math.log2(4 * math.sqrt(rows)))
    return max(1, min(spec.lists or usual, rows // POINTS))


def parts_of_code(width: int) -> int:
    """Into how many parts product quantisation cuts a vector: bytes of its code."""
    return max(parts for parts in range(1, max(1, width // DIMENSIONS_A_BYTE) + 1) if width % parts == 0)


def index_bytes(kind: str, rows: int, width: int, lists: int) -> int:
    """Bytes of the index's files, to some percent. The vectors themselves lie with the embeddings."""
    if kind == "exact":
        return 0
    if kind == "hnsw":
        return rows * (2 * width + 4 * 2 * LINKS + ID_BYTES + 4)
    code = {"ivf-flat": 2 * width, "ivf-sq8": width}.get(kind, parts_of_code(width))
    turned = 4 * width * width if kind == "ivf-opq" else 0
    return rows * (code + ID_BYTES) + 4 * width * lists + turned
