"""Measures how an index must be searched to reach a recall, on a sample of the bank's own rows.

Recall@8 is the share of the 8 neighbours found by exact search that the index finds too. A row does not count as its
own neighbour on either side, so the sample behaves like held-out queries from the same texts.
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
"""Factors tried for ``IndexMeta.widen``, for kinds whose codes are lossy. The smallest that reaches the recall is
used."""
MOST_EF_SEARCH = 4096
"""The largest efSearch tried for graphs."""
RECALL_SEED = 2


def open_measuring(build: IndexBuild, worker: Worker) -> Callable[[tuple[IndexMeta, float]], IndexMeta]:
    """Return a function (meta, wanted recall) -> meta with ``probe``, ``widen``, ``recall`` and ``queries`` measured.
    They are the cheapest that reach the wanted recall, or the widest where none does."""
    embeddings = read_embeddings(build.embeddings)
    rows = sample(embeddings.rows, QUERIES, build.seed, RECALL_SEED)
    queries = embeddings.gather(rows)

    def measure(request: tuple[IndexMeta, float]) -> IndexMeta:
        meta, wanted = request
        whole = open_search(None, embeddings, worker.threads, worker.device)
        worker.note(f"measures recall: {len(rows)} exact searches of {embeddings.rows:,} vectors")
        truth = without_own(whole.search(queries, NEIGHBOURS + 1)[1], rows)
        finder = GraphSearch(build.out, meta, 1) if meta.kind == "hnsw" else ListSearch(build.out, 1)
        ordered = [1] if meta.kind not in WIDENED else [*WIDENED[meta.kind]]

        @cache
        def recall(probe: int, widen: int) -> float:
            finder.probe = probe
            found = Search(embeddings, finder, widen).search(queries, NEIGHBOURS + 1)[1]
            share = recall_of(truth, without_own(found, rows))
            worker.note(f"measures recall: {share:.4f} at probe {probe}, widen {widen}")
            return share

        probe = smallest_sufficient(lambda probe: recall(probe, ordered[-1]) >= wanted, _most(finder))
        widen = next((widen for widen in ordered if recall(probe, widen) >= wanted), ordered[-1])
        return replace(meta, probe=probe, widen=widen, recall=recall(probe, widen), queries=len(rows))

    return measure


def _most(finder: RowFinder) -> int:
    return int(finder.lists.nlist) if isinstance(finder, ListSearch) else MOST_EF_SEARCH


def smallest_sufficient(enough: Callable[[int], bool], most: int) -> int:
    """The smallest number from 1 to ``most`` that is ``enough``, or ``most`` where none is. ``enough`` must be
    monotone."""
    high = 1
    while high < most and not enough(high):
        high = min(most, 2 * high)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def without_own(found: Rows, own: Rows) -> Rows:
    """``found`` [n, k + 1] without the row itself, [n, k] in order; where it is not among them, without the last."""
    itself = found == own[:, None]
    itself[:, -1] |= ~itself.any(1)
    kept: Rows = found[~itself].reshape(len(found), -1)
    return kept


def recall_of(truth: Rows, found: Rows) -> float:
    """The share of the entries of ``truth`` that are in the same row of ``found``; -1 stands for no entry."""
    there = truth >= 0
    hits = (truth[:, :, None] == found[:, None]).any(2) & there
    return float(hits.sum() / max(1, there.sum()))
