"""The stage ``index``: the embeddings of a bank -> a FAISS index.

Lists are learnt from a sample, filled shard by shard by any number of workers, and merged into files that are mapped
for reading. Then recall is measured against exact search, which decides how many lists a search visits. An interrupted
run goes on from its finished shards. ``stages/retrieval/index_reader.py`` describes the files.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from cluster.resources import On, Worker
from stages.corpus.reader import SCRATCH
from stages.retrieval.embeddings import read_embeddings
from stages.retrieval.index_plan import IndexBuild, IndexPlan, planned
from stages.retrieval.index_reader import FAISS, LISTS, IndexMeta, graph_path, sizes_path, write_index_meta
from stages.specs.retrieval import IndexSpec

Facts = dict[str, object]


def index(spec: IndexSpec, inputs: Mapping[str, Path], out: Path, on: On) -> Facts:
    """Write an index to ``out``; return the content of its ``index.json``. Inputs: ``embeddings``. ValueError for
    embeddings that need no index."""
    embeddings = read_embeddings(inputs["embeddings"])
    if embeddings.kind != "model":
        raise ValueError(f"embeddings: {embeddings.kind} vectors are searched without an index; leave the index out")
    plan = planned(spec, embeddings.rows, embeddings.width)
    if plan.kind != spec.kind:
        on.log(f"kind: {spec.kind} resolves to {plan.kind} for {plan.rows:,} vectors of width {plan.width}")
    if plan.lists and spec.lists not in (None, plan.lists):
        on.log(f"lists: {spec.lists} cannot be learnt from {plan.rows:,} vectors; {plan.lists} are used")
    (out / SCRATCH).mkdir(parents=True, exist_ok=True)
    clock: dict[str, float] = {}
    build = IndexBuild(plan, spec.seed, embeddings.directory, out)
    _build(build, on, clock)
    size = sum(path.stat().st_size for path in files(plan, out))
    meta = IndexMeta(plan.kind, plan.rows, plan.width, plan.lists, 0, 1, 1.0, 0, size, clock)
    if plan.kind != "exact":
        with _timed("recall", clock):
            meta = next(on.map(open_measuring, build, [(meta, spec.recall)]))[1]
        if meta.recall < spec.recall:
            on.log(f"recall: {meta.recall:.4f}, below {spec.recall} even with the widest search; use a finer kind")
    meta = replace(meta, seconds=clock)
    write_index_meta(out, meta)
    return asdict(meta)


def files(plan: IndexPlan, out: Path) -> list[Path]:
    """The files of a finished index without ``index.json``."""
    match plan.kind:
        case "exact":
            return []
        case "hnsw":
            return [graph_path(out, shard) for shard in range(plan.shards)]
        case _:
            return [out / FAISS, out / LISTS, sizes_path(out / LISTS)]


def _build(build: IndexBuild, on: On, clock: dict[str, float]) -> None:
    """Build the files of the index that ``build.out`` does not hold yet, and note the seconds of each step in
    ``clock``."""
    plan, out = build.plan, build.out
    if plan.kind == "exact":
        return
    if plan.kind == "hnsw":
        missing = _missing(plan, files(plan, out), on)
        together = on.resources.cpus_per_worker
        groups = [missing[start : start + together] for start in range(0, len(missing), together)]
        with _timed("add", clock):
            _run(on.map(open_graphs, build, groups))
    elif not (out / FAISS).is_file():
        missing = _missing(plan, [sizes_path(build.shard_lists(shard)) for shard in range(plan.shards)], on)
        if not build.trained.is_file():
            with _timed("train", clock):
                _run(on.map(open_training, build, [None]))
        with _timed("add", clock):
            _run(on.map(open_filling, build, missing))
        with _timed("merge", clock):
            _run(on.map(open_merging, build, [None]))
    for shard in range(plan.shards):  # they are merged into the index
        lists = build.shard_lists(shard)
        for path in (sizes_path(lists), lists):
            path.unlink(missing_ok=True)


def _missing(plan: IndexPlan, paths: Sequence[Path], on: On) -> list[int]:
    """The shards that no earlier attempt has finished; reports the vectors that are left to add."""
    missing = [shard for shard, path in enumerate(paths) if not path.is_file()]
    if len(missing) < len(paths):
        on.log(f"{len(paths) - len(missing)} of {len(paths)} shards were there already")
    spans = [plan.span(shard) for shard in missing]
    on.expect(sum(last - first for first, last in spans), "vectors")
    return missing


def _run(results: Iterable[object]) -> None:
    for _ in results:
        pass


@contextmanager
def _timed(step: str, clock: dict[str, float]) -> Iterator[None]:
    """Enter the wall-clock seconds of the block in ``clock``."""
    start = time.perf_counter()
    yield
    clock[step] = round(time.perf_counter() - start, 3)


# --- in a worker: heavy modules are imported here, where a step starts ---------------------------------


def open_training(build: IndexBuild, worker: Worker) -> Callable[[None], int]:
    from stages.retrieval import build as faiss_index

    return faiss_index.open_training(build, worker)


def open_filling(build: IndexBuild, worker: Worker) -> Callable[[int], int]:
    from stages.retrieval import build as faiss_index

    return faiss_index.open_filling(build, worker)


def open_merging(build: IndexBuild, worker: Worker) -> Callable[[None], None]:
    from stages.retrieval import build as faiss_index

    return faiss_index.open_merging(build, worker)


def open_graphs(build: IndexBuild, worker: Worker) -> Callable[[Sequence[int]], int]:
    from stages.retrieval import build as faiss_index

    return faiss_index.open_graphs(build, worker)


def open_measuring(build: IndexBuild, worker: Worker) -> Callable[[tuple[IndexMeta, float]], IndexMeta]:
    from stages.retrieval import recall

    return recall.open_measuring(build, worker)
