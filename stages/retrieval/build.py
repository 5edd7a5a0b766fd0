"""Builds an index in a worker: centres learnt from a sample, vectors coded a shard at a time and merged into one file.

Inner product of vectors of length 1 (Johnson et al. 2021, "Billion-scale similarity search with GPUs"; product
quantisation: Jégou et al. 2011; OPQ: Ge et al. 2013; HNSW: Malkov and Yashunin 2018).
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
from stages.retrieval.index_plan import LINKS, POINTS, IndexBuild, IndexPlan, parts_of_code
from stages.retrieval.index_reader import graph_path
from stages.retrieval.inverted_lists import merge_lists, write_lists
from stages.specs.seeds import seed_of

BLOCK = 16_384
"""Vectors in memory at a time."""
ITERATIONS = 10
"""Of k-means, as FAISS itself has for inverted lists."""
TURNS = 10
"""Iterations of OPQ. FAISS's own 50 take minutes a core at width 384 (measured: 122 s for 20,000 vectors)."""
LISTS_SEED = 1
"""Tells the sample that lists are learnt from, from the one that recall is measured on."""


# --- learn ------------------------------------------------------------------------------------------


def open_training(build: IndexBuild, worker: Worker) -> Callable[[None], int]:
    """Learn the lists and the quantiser; leave an empty index in ``build.trained``."""
    faiss.omp_set_num_threads(worker.threads)
    vectors, plan = read_embeddings(build.embeddings), build.plan

    def train(_: None) -> int:
        worker.note(f"reads {plan.train_rows:,} vectors to learn {plan.lists:,} lists from")
        index = trained(plan, vectors.gather(sample(plan.rows, plan.train_rows, build.seed)), build.seed, worker)
        _write(index, build.trained)
        return plan.train_rows

    return train


def sample(rows: int, count: int, seed: int, purpose: int = LISTS_SEED) -> npt.NDArray[np.int64]:
    """So many distinct rows by chance, in order."""
    generator = np.random.Generator(np.random.PCG64(seed_of(seed, purpose)))
    return np.sort(generator.choice(rows, min(rows, count), replace=False, shuffle=False)).astype(np.int64)


def trained(plan: IndexPlan, points: npt.NDArray[np.float32], seed: int, worker: Worker) -> Any:
    """An empty index that has learnt from ``points`` [n, width]."""
    turned = None
    if plan.kind == "ivf-opq":
        worker.note("learns to turn vectors (OPQ)")
        turned = faiss.OPQMatrix(plan.width, parts_of_code(plan.width))
        turned.niter = TURNS
        turned.pq = quantiser = faiss.ProductQuantizer(plan.width, parts_of_code(plan.width), _bits(len(points)))
        turned.train(points)
        turned.pq = None  # it is not the owner
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
    """Spherical k-means, an iteration at a time so that one sees how far it is. On a GPU where FAISS has one."""
    width = points.shape[1]
    clustering = faiss.Clustering(width, count)
    clustering.niter, clustering.spherical, clustering.seed = 1, True, seed_of(seed) % 2**31
    clustering.max_points_per_centroid = len(points)  # the sample is bounded already
    nearest: Any = faiss.IndexFlatIP(width)
    if on_gpu(worker):
        nearest = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), _gpu(worker), nearest)
    for iteration in range(ITERATIONS):
        worker.note(f"learns {count:,} lists from {len(points):,} vectors: iteration {iteration + 1} of {ITERATIONS}")
        clustering.train(points, nearest)
    found: npt.NDArray[np.float32] = faiss.vector_to_array(clustering.centroids).reshape(count, width)
    return found


def _lists(plan: IndexPlan, centres: Any, points: int) -> Any:
    """Untrained lists of codes. Those of a scalar quantiser are of the vector, not of its distance to the centre: a
    float16 is then kept as it is, and one range serves all lists."""
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
    """Bits of a code's part: a byte, or as many as can be learnt from so few vectors."""
    return max(1, min(8, (points // POINTS).bit_length() - 1))


# --- fill -------------------------------------------------------------------------------------------


def open_filling(build: IndexBuild, worker: Worker) -> Callable[[int], int]:
    """Write the codes of one shard of the vectors, list after list."""
    faiss.omp_set_num_threads(worker.threads)
    vectors, plan = read_embeddings(build.embeddings), build.plan
    index: Any = faiss.read_index(str(build.trained))  # owns what is taken out of it here
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
    """Merge the lists of all shards into the files of the index."""

    def merge(_: None) -> None:
        worker.note(f"merges {build.plan.shards} shards")
        shards = [build.shard_lists(shard) for shard in range(build.plan.shards)]
        merge_lists(faiss.read_index(str(build.trained)), shards, build.out)

    return merge


def _write(index: Any, path: Path) -> None:
    with replacing(path) as draft:
        faiss.write_index(index, str(draft))


def open_graphs(build: IndexBuild, worker: Worker) -> Callable[[Sequence[int]], int]:
    """Write some graphs at once, each in one thread: in several its links would depend on which was quicker."""
    vectors, plan = read_embeddings(build.embeddings), build.plan

    def write(shard: int) -> int:
        faiss.omp_set_num_threads(1)
        code: Any = faiss.ScalarQuantizer.QT_fp16
        graph = faiss.IndexHNSWSQ(plan.width, code, LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.train(np.zeros((1, plan.width), np.float32))  # a float16 has nothing to learn
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
