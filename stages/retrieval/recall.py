"""How an index must be searched to reach a recall, measured on a sample of the bank's own rows.

Recall@8: of the 8 that exact search finds, the share that the index finds. A row is no neighbour of its own: it is left
out on both sides, so the sample is like held-out queries from the same texts.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from cluster.resources import Worker
from stages.retrieval.build import sample
from stages.retrieval.embeddings import read_embeddings
from stages.retrieval.index_plan import IndexBuild
from stages.retrieval.index_reader import IndexMeta
from stages.retrieval.search import GraphSearch, ListSearch, RowFinder, Rows, Search, open_search

NEIGHBOURS = 8
QUERIES = 512
WIDENED = {"ivf-sq8": (2, 4, 8), "ivf-pq": (4, 8, 16, 32, 64), "ivf-opq": (4, 8, 16, 32, 64)}
"""So many times what is asked for is found by codes that lose something; the least that does."""
MOST_SEEN = 4096
"""efSearch of a graph at most."""
RECALL_SEED = 2


def open_measuring(build: IndexBuild, worker: Worker) -> Callable[[tuple[IndexMeta, float]], IndexMeta]:
    """(what is known of an index, the recall wanted) -> the same with how it is to be searched, and the recall so."""
    embeddings = read_embeddings(build.embeddings)
    rows = sample(embeddings.rows, QUERIES, build.seed, RECALL_SEED)
    queries = embeddings.gather(rows)

    def measure(asked: tuple[IndexMeta, float]) -> IndexMeta:
        meta, wanted = asked
        whole = open_search(None, embeddings, worker.threads, worker.device)
        worker.note(f"measures recall: {len(rows)} exact searches of {embeddings.rows:,} vectors")
        truth = others(whole.search(queries, NEIGHBOURS + 1)[1], rows)
        finder = GraphSearch(build.out, meta, 1) if meta.kind == "hnsw" else ListSearch(build.out, 1)
        ordered = [1] if meta.kind not in WIDENED else [*WIDENED[meta.kind]]

        @cache
        def recall(probe: int, widen: int) -> float:
            finder.probe = probe
            found = Search(embeddings, finder, widen).search(queries, NEIGHBOURS + 1)[1]
            share = shared(truth, others(found, rows))
            worker.note(f"measures recall: {share:.4f} at probe {probe}, widen {widen}")
            return share

        probe = smallest(lambda probe: recall(probe, ordered[-1]) >= wanted, _most(finder))
        widen = next((widen for widen in ordered if recall(probe, widen) >= wanted), ordered[-1])
        return replace(meta, probe=probe, widen=widen, recall=recall(probe, widen), queries=len(rows))

    return measure


def _most(finder: RowFinder) -> int:
    return int(finder.lists.nlist) if isinstance(finder, ListSearch) else MOST_SEEN


def smallest(enough: Callable[[int], bool], most: int) -> int:
    """The smallest from 1 to ``most`` that is enough, where more never is less; ``most`` where none is."""
    high = 1
    while high < most and not enough(high):
        high = min(most, 2 * high)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def others(found: Rows, own: Rows) -> Rows:
    """[n, k] of the [n, k + 1] found, in order: without the row itself or, where it is not there, without the last."""
    itself = found == own[:, None]
    itself[:, -1] |= ~itself.any(1)
    kept: Rows = found[~itself].reshape(len(found), -1)
    return kept


def shared(truth: Rows, found: Rows) -> float:
    """The share of ``truth`` that is found, over all rows."""
    there = truth >= 0
    hits = (truth[:, :, None] == found[:, None]).any(2) & there
    return float(hits.sum() / max(1, there.sum()))
