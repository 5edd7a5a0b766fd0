"""An index of a million vectors and a search through it, against FAISS called by hand, each in a process of its own.

By hand: the whole bank in memory as float32, ``index_factory`` of the same type, a training sample of the same size,
``add`` in one go, ``search`` of as many lists. Reading the vectors is not counted for it, and is for ours. Ours is the
stage ``index`` (auto) and the search that neighbours use, which also puts what is found in order by exact cosines.

The vectors are a mixture: 20,000 groups whose centres lie in 48 dimensions, as those of sentences lie in a few tens,
points around them there, and a little noise in all 384; scaled to length 1, float16, in shards. Queries are further
draws. Memory is the largest RssAnon + RssShmem seen twenty times a second; pages of mapped files do not count.
"""

import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.findings import Finding, Goal
from benchmarks.memory import watched
from benchmarks.pairs import Cost, cpu_seconds, summary, timed
from benchmarks.scene import Scene, Watch

ROWS, QUICK_ROWS = 1_000_000, 150_000
WIDTH = 384
GROUPS, INNER = 20_000, 48
SHARD = 16_384
QUERIES, CHECKED = 5000, 500
THREADS = 2
REPEATS = 3
K = 8


@dataclass(frozen=True)
class Built:
    """What one process found. ``parts`` are seconds of ours by step."""

    build: Cost
    search: Cost
    peak: int
    recall: float
    parts: dict[str, float]


def measure(scene: Scene) -> list[Finding]:
    rows = ROWS if scene.scale.turns >= 7 else QUICK_ROWS
    root = scene.root / "knn"
    write_vectors(root, rows)
    ours = alone(ours_measured, root)
    raw = alone(raw_measured, root)
    meta = json.loads((root / "index" / "index.json").read_text())
    about = f"{rows:,} x {WIDTH}, {meta['kind']}, {meta['lists']} lists, {meta['probe']} visited"
    steps = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in ours.parts.items())
    without = ours.build.wall - ours.parts["recall"]

    def finding(name: str, value: float, goal: Goal | None = None, unit: str = "", note: str = "") -> Finding:
        return Finding(name, summary([value]), goal, unit, note, once=True)

    return [
        finding("index, built / by hand", without / raw.build.wall, Goal(most=1.1), note=about),
        finding(
            "... and its recall measured", ours.build.wall / raw.build.wall, note=f"{steps}; {raw.build.wall:.1f} s"
        ),
        finding("... by processor time", ours.build.cpu / raw.build.cpu),
        finding(
            f"search of {QUERIES:,} / by hand",
            ours.search.wall / raw.search.wall,
            Goal(most=1.1),
            note=f"cpu {ours.search.cpu / raw.search.cpu:.3f}; {QUERIES / ours.search.wall:,.0f} queries a second",
        ),
        finding(
            "recall@8", ours.recall, Goal(least=0.95), note=f"by hand {raw.recall:.4f}; stated {meta['recall']:.4f}"
        ),
        finding("memory, building and searching", ours.peak / 1e9, unit="GB", note=f"by hand {raw.peak / 1e9:.2f} GB"),
        finding("index on disk", meta["bytes"] / 1e9, unit="GB"),
    ]


def alone(work: Callable[[Path], Built], root: Path) -> Built:
    """In a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as one:
        return one.submit(work, root).result()


# --- the vectors ------------------------------------------------------------------------------------------


def write_vectors(root: Path, rows: int) -> None:
    """``embeddings/`` as the stage leaves them, and ``queries.npy``."""
    folder = root / "embeddings"
    folder.mkdir(parents=True)
    shards = []
    for number, start in enumerate(range(0, rows, SHARD)):
        count = min(SHARD, rows - start)
        np.save(folder / f"vectors-{number:05d}.npy", drawn(count, number + 1).astype(np.float16))
        shards.append(count)
    (folder / "embeddings.json").write_text(json.dumps({"kind": "model", "width": WIDTH, "shards": shards}))
    np.save(root / "queries.npy", drawn(QUERIES, 0))


def drawn(count: int, seed: int) -> npt.NDArray[np.float32]:
    fixed = np.random.Generator(np.random.PCG64(7))
    turn = fixed.standard_normal((INNER, WIDTH), np.float32) / np.float32(WIDTH**0.5)
    centres = fixed.standard_normal((GROUPS, INNER), np.float32)
    own = np.random.Generator(np.random.PCG64([7, seed]))
    inner = centres[own.integers(0, GROUPS, count)] + np.float32(0.4) * own.standard_normal((count, INNER), np.float32)
    vectors = inner @ turn + np.float32(0.02) * own.standard_normal((count, WIDTH), np.float32)
    scaled: npt.NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


# --- what is compared -------------------------------------------------------------------------------------


def ours_measured(root: Path) -> Built:
    from cluster.inline import Inline
    from cluster.resources import Resources
    from stages.retrieval.embeddings import read_embeddings
    from stages.retrieval.index import index
    from stages.retrieval.search import open_search
    from stages.specs.retrieval import IndexSpec

    out = root / "index"
    out.mkdir()
    facts: dict[str, Any] = {}
    with watched() as peak:
        on = Inline().on(Resources(cpus_per_worker=THREADS), Watch())
        spec = IndexSpec(kind="ivf-flat")  # what auto takes for a million; a quick run has fewer
        build = timed(lambda: facts.update(index(spec, {"embeddings": root / "embeddings"}, out, on)))
        search = open_search(out, read_embeddings(root / "embeddings"), THREADS)
        cost, found = searched(lambda queries: search.search(queries, K)[1], np.load(root / "queries.npy"))
    whole = open_search(None, search.embeddings, THREADS)
    truth = whole.search(np.load(root / "queries.npy")[:CHECKED], K)[1]
    np.save(root / "truth.npy", truth)
    return Built(build, cost, peak[0], recall(truth, found), facts["seconds"])


def raw_measured(root: Path) -> Built:
    import faiss

    faiss.omp_set_num_threads(THREADS)
    meta = json.loads((root / "index" / "index.json").read_text())
    shards = sorted((root / "embeddings").glob("vectors-*.npy"))
    from stages.retrieval.index_plan import POINTS_PER_LIST

    with watched() as peak:
        vectors = np.empty((meta["rows"], WIDTH), np.float32)
        for number, path in enumerate(shards):
            vectors[number * SHARD : (number + 1) * SHARD] = np.load(path)
        chosen = np.random.default_rng(0).choice(len(vectors), POINTS_PER_LIST * meta["lists"], replace=False)
        sample = vectors[np.sort(chosen)]
        index: Any = faiss.index_factory(WIDTH, f"IVF{meta['lists']},SQfp16", faiss.METRIC_INNER_PRODUCT)
        index.by_residual = False

        def make() -> None:
            index.train(sample)
            index.add(vectors)

        build = timed(make)
        index.nprobe = meta["probe"]
        cost, found = searched(lambda queries: index.search(queries, K)[1], np.load(root / "queries.npy"))
    return Built(build, cost, peak[0], recall(np.load(root / "truth.npy"), found), {})


def searched(search: Callable[[Any], Any], queries: Any) -> tuple[Cost, Any]:
    """The median of some, after a first one that is not counted."""
    found = search(queries)
    costs = []
    for _ in range(REPEATS):
        wall, cpu = time.perf_counter(), cpu_seconds()
        search(queries)
        costs.append(Cost(time.perf_counter() - wall, cpu_seconds() - cpu))
    return Cost(
        *(statistics.median(values) for values in zip(*((one.wall, one.cpu) for one in costs), strict=True))
    ), found


def recall(truth: Any, found: Any) -> float:
    return float(np.mean([len({*one} & {*other}) / K for one, other in zip(truth, found[: len(truth)], strict=True)]))


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["knn", *sys.argv[1:]]))
