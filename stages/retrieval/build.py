"""Builds an index in a worker: learns centres from a sample, adds vectors shard by shard, merges the shards.

The metric is the inner product of vectors of length 1 (Johnson et al. 2021, "Billion-scale similarity search with
GPUs"; product quantisation: Jégou et al. 2011; OPQ: Ge et al. 2013; HNSW: Malkov and Yashunin 2018).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from cluster.resources import Worker
from stages.atomic import replacing
from stages.retrieval.embeddings import read_embeddings
from stages.retrieval.index_plan import GRAPH_LINKS, POINTS_PER_LIST, IndexBuild, IndexPlan, parts_of_code
from stages.retrieval.index_reader import graph_path
from stages.retrieval.inverted_lists import merge_lists, write_lists
from stages.specs.seeds import seed_of

BLOCK = 16_384
"""Vectors in memory at a time."""
ITERATIONS = 10
"""Iterations of k-means: the number that FAISS itself uses for inverted lists."""
OPQ_ITERATIONS = 10
"""Iterations of OPQ. The default of FAISS, 50, takes minutes a core at width 384 (measured: 122 s for 20,000
vectors)."""
LISTS_SEED = 1
"""Seeds the sample from which lists are learnt; recall is measured on another one."""


# --- learn ------------------------------------------------------------------------------------------


def open_training(build: IndexBuild, worker: Worker) -> Callable[[None], int]:
    """Return a function that learns the lists and the quantiser, writes the index without vectors to ``build.trained``,
    and returns the number of training vectors."""
    faiss.omp_set_num_threads(worker.threads)
    vectors, plan = read_embeddings(build.embeddings), build.plan

    def learn(_: None) -> int:
        worker.note(f"reads {plan.train_rows:,} vectors to learn {plan.lists:,} lists from")
        index = train(plan, vectors.gather(sample(plan.rows, plan.train_rows, build.seed)), build.seed, worker)
        _write(index, build.trained)
        return plan.train_rows

    return learn


def sample(rows: int, count: int, seed: int, purpose: int = LISTS_SEED) -> npt.NDArray[np.int64]:
    """A seeded sample of ``count`` distinct rows, in ascending order; all rows where there are no more."""
    generator = np.random.Generator(np.random.PCG64(seed_of(seed, purpose)))
    return np.sort(generator.choice(rows, min(rows, count), replace=False, shuffle=False)).astype(np.int64)


def train(plan: IndexPlan, points: npt.NDArray[np.float32], seed: int, worker: Worker) -> Any:
    """An index without vectors whose lists and quantiser are learnt from ``points`` [n, width]."""
    turned = None
    if plan.kind == "ivf-opq":
        worker.note("learns to turn vectors (OPQ)")
        turned = faiss.OPQMatrix(plan.width, parts_of_code(plan.width))
        turned.niter = OPQ_ITERATIONS
        turned.pq = quantiser = faiss.ProductQuantizer(plan.width, parts_of_code(plan.width), _bits(len(points)))
        turned.train(points)
        turned.pq = None  # the matrix does not own the quantiser
        del quantiser
        points = turned.apply(points)
    centres = faiss.IndexFlatIP(plan.width)
    centres.add(_centroids(points, plan.lists, seed, worker))
    worker.note(f"learns to quantise ({plan.kind})")
    lists = _lists(plan, centres, len(points))
    lists.train(points)
    if turned is None:
        return lists
    whole = faiss.IndexPreTransform(lists)
    whole.prepend_transform(turned)
    return whole


def _centroids(points: npt.NDArray[np.float32], count: int, seed: int, worker: Worker) -> npt.NDArray[np.float32]:
    """The centres of spherical k-means, [count, width]. Runs an iteration at a time, to report progress, and on a GPU
    where FAISS has one."""
    width = points.shape[1]
    clustering = faiss.Clustering(width, count)
    clustering.niter, clustering.spherical, clustering.seed = 1, True, seed_of(seed) % 2**31
    clustering.max_points_per_centroid = len(points)  # the sample itself is bounded
    nearest: Any = faiss.IndexFlatIP(width)
    if on_gpu(worker):
        nearest = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), _gpu(worker), nearest)
    for iteration in range(ITERATIONS):
        worker.note(f"learns {count:,} lists from {len(points):,} vectors: iteration {iteration + 1} of {ITERATIONS}")
        clustering.train(points, nearest)
    found: npt.NDArray[np.float32] = faiss.vector_to_array(clustering.centroids).reshape(count, width)
    return found


def _lists(plan: IndexPlan, centres: Any, points: int) -> Any:
    """An index with untrained inverted lists. A scalar quantiser encodes the vector itself, not its difference from the
    centre: float16 vectors are then kept exactly, and one range of values serves all lists."""
    found: Any
    match plan.kind:
        case "ivf-flat" | "ivf-sq8":
            scalar = faiss.ScalarQuantizer
            code = scalar.QT_fp16 if plan.kind == "ivf-flat" else scalar.QT_8bit
            found = faiss.IndexIVFScalarQuantizer(
                centres, plan.width, plan.lists, code, faiss.METRIC_INNER_PRODUCT, False
            )
        case _:
            parts, bits = parts_of_code(plan.width), _bits(points)
            found = faiss.IndexIVFPQ(centres, plan.width, plan.lists, parts, bits, faiss.METRIC_INNER_PRODUCT)
    found.own_fields = True
    centres.this.disown()
    return found


def _bits(points: int) -> int:
    """Bits for each part of a product-quantised code: 8, or as many as can be learnt from so few training vectors."""
    return max(1, min(8, (points // POINTS_PER_LIST).bit_length() - 1))


# --- fill -------------------------------------------------------------------------------------------


def open_filling(build: IndexBuild, worker: Worker) -> Callable[[int], int]:
    """Return a function that adds one shard of the vectors to empty lists, writes these, and returns its rows."""
    faiss.omp_set_num_threads(worker.threads)
    vectors, plan = read_embeddings(build.embeddings), build.plan
    index: Any = faiss.read_index(str(build.trained))  # owns ``lists`` and ``centres``
    lists: Any = faiss.extract_index_ivf(index)
    centres = faiss.downcast_index(lists.quantizer)
    if on_gpu(worker):
        centres = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), _gpu(worker), centres)

    def fill(shard: int) -> int:
        worker.note(f"adds shard {shard + 1} of {plan.shards}")
        first, last = plan.span(shard)
        lists.reset()
        for start, block in vectors.blocks(BLOCK, first, last):
            points = index.chain.at(0).apply(block) if plan.kind == "ivf-opq" else block
            chosen = np.ascontiguousarray(centres.search(points, 1)[1][:, 0])
            rows = np.arange(start, start + len(block), dtype=np.int64)
            lists.add_core(len(block), *(faiss.swig_ptr(values) for values in (points, rows, chosen)))
            worker.advance(len(block))
        write_lists(lists.invlists, build.shard_lists(shard))
        return last - first

    return fill


def on_gpu(worker: Worker) -> bool:
    return worker.device.startswith("cuda") and faiss.get_num_gpus() > 0


def _gpu(worker: Worker) -> int:
    return int(worker.device.partition(":")[2] or 0)


# --- merge ------------------------------------------------------------------------------------------


def open_merging(build: IndexBuild, worker: Worker) -> Callable[[None], None]:
    """Return a function that merges the lists of all shards into the files of the index."""

    def merge(_: None) -> None:
        worker.note(f"merges {build.plan.shards} shards")
        shards = [build.shard_lists(shard) for shard in range(build.plan.shards)]
        merge_lists(faiss.read_index(str(build.trained)), shards, build.out)

    return merge


def _write(index: Any, path: Path) -> None:
    with replacing(path) as draft:
        faiss.write_index(index, str(draft))


def open_graphs(build: IndexBuild, worker: Worker) -> Callable[[Sequence[int]], int]:
    """Return a function that builds the graphs of some shards, in parallel, and returns their rows. Each graph is built
    in one thread: with several, its links would depend on their timing."""
    vectors, plan = read_embeddings(build.embeddings), build.plan

    def write(shard: int) -> int:
        faiss.omp_set_num_threads(1)
        code: Any = faiss.ScalarQuantizer.QT_fp16
        graph = faiss.IndexHNSWSQ(plan.width, code, GRAPH_LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.train(np.zeros((1, plan.width), np.float32))  # float16 codes need no training
        for _, block in vectors.blocks(BLOCK, *plan.span(shard)):
            graph.add(block)
            worker.advance(len(block))
        _write(graph, graph_path(build.out, shard))
        return int(graph.ntotal)

    def several(shards: Sequence[int]) -> int:
        worker.note(f"builds graphs {', '.join(str(shard + 1) for shard in shards)} of {plan.shards}")
        with ThreadPoolExecutor(worker.threads) as pool:
            return sum(pool.map(write, shards))

    return several
