"""The stage ``teach``: a model over a corpus -> the teacher-output store.

The teacher runs in eval mode under inference mode, on batches sorted by length up to a token budget. Each distinct
row is computed once, and only where no earlier result holds it: finished shards of an interrupted attempt are kept, and
rows of stores that are given as ``prior`` are copied bit by bit. A shard is written whole or not at all. Rows whose
outputs are not finite stop the stage or are set aside (``stages/outputs/quarantine.py``).
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from cluster.resources import On, Resources, Worker
from stages.checksum import keep_checksums
from stages.corpus.batches import Rows
from stages.corpus.reader import SCRATCH, Meta, read_meta, read_row_table
from stages.models.shape import Shape, config_of, shape_of
from stages.outputs.layout import Layout, ShardFile, read_store, scales_name, shard_numbers, write_store
from stages.outputs.parquet import Damaged, check_footer, read_row_keys
from stages.outputs.quarantine import check_share, read_bad_rows, write_quarantined
from stages.outputs.sizes import SHARD_BYTES, SHARD_ROWS, chosen_layers
from stages.specs.corpus import TOKENISATION
from stages.specs.teacher import PRIOR, QUARANTINED, TeachSpec
from stages.teaching.finished import finished_shards
from stages.teaching.job import PriorShard, Shard, TeachJob, WrittenShard, sizes_of_rows

Facts = dict[str, object]

RUN_ON_CPU, RUN_ON_GPU = 4, 8
"""The most shards that a worker is given at a time. A shard takes a GPU a few seconds, and a CPU up to minutes."""
RUNS_A_WORKER = 2
"""The least number of runs for each worker where there are enough shards."""


def teach(spec: TeachSpec, inputs: Mapping[str, Path], out: Path, on: On) -> Facts:
    """Inputs: ``corpus``, ``model``, and any number of ``prior/...``. Writes ``shard-*.parquet`` and ``store.json``,
    and ``quarantined.parquet`` if rows are set aside. Returns the facts of the record: how many rows were computed and
    copied (``carried``), layers, width, shards, how often the token budget was halved, and with ``on_bad_rows:
    quarantine`` how many distinct rows are set aside (``quarantined``)."""
    corpus = inputs["corpus"]
    meta = read_meta(corpus)
    shape = shape_of(config_of(inputs["model"]), str(inputs["model"]))
    layout, rule = layout_of(spec, shape, meta), tokenisation(meta)
    keys = distinct_keys(corpus, spec.splits)
    kept = finished_shards(out, layout, shard_numbers(out))
    stored = {key for _, shard_keys in kept for key in shard_keys}
    bad = known_bad_rows(spec, out)
    bad = {key: bad[key] for key in keys if key in bad and key not in stored}
    left = {key: row for row, key in enumerate(keys) if key not in stored and key not in bad}
    priors = [path for name, path in inputs.items() if name.startswith(PRIOR)]
    sizes = sizes_of_rows(layout, meta, lengths(corpus, spec.splits, left))
    taken = {file.number for file, _ in kept} | {int(path.stem[-5:]) for path in bad_rows_files(out)}
    shards = list(planned(left, priors, layout, rule, sizes, taken))
    _check_space(out, int(sizes.sum()))
    on.expect(len(left), "rows")
    written: list[WrittenShard] = []
    job, items = TeachJob(spec, inputs["model"], corpus, out, layout), runs(shards, on.resources)
    for _, results in on.map(open_teacher, job, items):
        written += results
        if any(result.bad for result in results):
            bad |= {key: columns for result in results for key, columns in result.bad.items()}
            on.log(f"{len(bad):,} rows are set aside so far: the teacher's outputs for them are not finite")
            check_share(bad, len(keys))
    check_share(bad, len(keys))
    if bad:
        write_quarantined(out, bad, corpus, spec.splits)
    files = [file for file, _ in kept] + [result.file for result in written if result.file is not None]
    store = write_store(out, layout, rule, files)
    keep_checksums(out, checksums(files))
    facts: Facts = {
        "rows": store.rows,
        "computed": len(left) - sum(result.copied for result in written),
        "carried": sum(result.copied for result in written),
        "layers": len(layout.layers),
        "width": layout.width,
        "shards": len(store.shards),
        "oom_halvings": sum(result.halvings for result in written),
    }
    return facts if spec.on_bad_rows == "stop" else {**facts, "quarantined": len(bad)}


def bad_rows_files(out: Path) -> list[Path]:
    """The files in which workers of this attempt or an earlier one wrote down bad rows."""
    return sorted((out / SCRATCH).glob("bad-rows-*.parquet"))


def known_bad_rows(spec: TeachSpec, out: Path) -> dict[bytes, str]:
    """The rows that an interrupted attempt, or the store that is being repaired, has set aside already. They are not
    computed again. With ``on_bad_rows: stop`` there are none: what is found is removed."""
    found: dict[bytes, str] = {}
    for path in (out / QUARANTINED, *bad_rows_files(out)):
        if spec.on_bad_rows == "stop":
            path.unlink(missing_ok=True)
        elif path.exists():
            with suppress(ValueError):  # one that cannot be read: its rows are computed again
                found |= read_bad_rows(path)
    return found


def layout_of(spec: TeachSpec, shape: Shape, meta: Meta) -> Layout:
    """The layout that the store will have. Raises ValueError for a layer that the teacher lacks."""
    layers = chosen_layers(spec.layers, shape.layers, spec.part)
    pooling = spec.pooling if spec.part == "pooled" else ""
    outputs = meta.task.outputs if spec.logits else 0
    widths = tuple(shape.widths[layer] for layer in layers) if shape.widths else ()
    entries = meta.task.kind.has_entries and spec.logits and spec.part == "pooled"
    return Layout(spec.part, layers, shape.width, shape.heads, outputs, pooling, spec.precision, widths, entries)


def checksums(files: Sequence[ShardFile]) -> dict[str, str]:
    """Name -> sha256 of the shards and of their files of scales."""
    scales = {scales_name(file.number): file.scales_sha256 for file in files if file.scales_sha256}
    return {file.name: file.sha256 for file in files} | scales


def tokenisation(meta: Meta) -> str:
    """Names the rule by which texts became tokens: rows of equal key and rule have equal tokens."""
    return f"{meta.tokenizer_sha256[:16]}-{meta.max_length}-{len(meta.task.text)}-{TOKENISATION}"


def lengths(corpus: Path, splits: Sequence[str], rows: Mapping[bytes, int]) -> Rows:
    """The number of tokens of each of these rows, in their order."""
    found: dict[bytes, int] = {}
    for name in splits:
        table = read_row_table(corpus, name)
        found |= {key: int(cost) for key, cost in zip(table.keys, table.costs, strict=True) if key in rows}
    return np.array([found[key] for key in rows], np.int64)


def distinct_keys(corpus: Path, splits: Sequence[str]) -> list[bytes]:
    """The keys of all rows, each once, in the order in which they first come."""
    return list(dict.fromkeys(key for split in splits for key in read_row_table(corpus, split).keys))


def planned(
    wanted: Mapping[bytes, int], priors: Sequence[Path], layout: Layout, rule: str, sizes: Rows, taken: set[int]
) -> Iterator[Shard]:
    """The shards to write for the rows in ``wanted`` (key -> number of the row), which have these ``sizes`` in bytes,
    under numbers that are not ``taken``: first those to copy from ``priors``, then those to compute."""
    left = dict(wanted)
    free = (number for number in range(len(taken) + len(left) + 1) if number not in taken)
    for source, keys in usable_shards(priors, layout, rule):
        rows = [left.pop(key) for key in keys if key in left]
        if rows:
            yield Shard(next(free), np.array(rows, np.int64), source)
        if not left:
            return
    places = np.array([place for place, key in enumerate(wanted) if key in left], np.int64)
    rest = np.array(list(left.values()), np.int64)
    for start, end in shard_parts(sizes[places]):
        yield Shard(next(free), rest[start:end])


def runs(shards: Sequence[Shard], resources: Resources) -> list[Sequence[Shard]]:
    """The shards in runs, each of which is one worker's work at a time: long enough that little is lost where a worker
    waits for the last of its shards to be written, and short enough that every worker has several."""
    most = RUN_ON_GPU if resources.gpus_per_worker else RUN_ON_CPU
    length = max(1, min(most, len(shards) // (RUNS_A_WORKER * resources.workers)))
    return [shards[start : start + length] for start in range(0, len(shards), length)]


def shard_parts(sizes: Rows) -> Iterator[tuple[int, int]]:
    """(start, end) of the rows of each shard, from the bytes of all rows: as many as the bounds of a shard allow, and
    at least one."""
    start = 0
    while start < len(sizes):
        sums = np.cumsum(sizes[start : start + SHARD_ROWS])
        end = start + max(1, int(np.searchsorted(sums, SHARD_BYTES, side="right")))
        yield start, end
        start = end


def usable_shards(priors: Sequence[Path], layout: Layout, rule: str) -> Iterator[tuple[PriorShard, list[bytes]]]:
    """The shards, with their row keys, of those earlier stores that have the same tokenisation ``rule`` and hold all
    columns of ``layout``. Shards that cannot be read, or were removed meanwhile, are skipped: their rows are computed
    instead."""
    for directory in priors:
        try:
            store = read_store(directory)
        except (ValueError, OSError):
            continue
        if store.tokenisation != rule or not store.layout.serves(layout):
            continue
        for shard in store.shards:
            try:
                check_footer(directory, shard)
                keys = read_row_keys(directory / shard.name)
            except (Damaged, OSError):
                continue
            yield PriorShard(directory, shard.number, store.layout), keys


def _check_space(out: Path, needed: int) -> None:
    """Raise ValueError where the disk has no room for the rest of the store. ``needed`` is in bytes before compression,
    which saves 8 % of float16."""
    free = shutil.disk_usage(out).free
    if free < 0.9 * needed:
        raise ValueError(
            f"{out}: {free:,} bytes are free, the rest of the store takes about {needed:,}; free some and run again, "
            "or choose store.precision: int8 or fewer store.layers"
        )


def open_teacher(job: TeachJob, worker: Worker) -> Callable[[Sequence[Shard]], list[WrittenShard]]:
    """Load the teacher once a worker; return what writes the shards of a run. Heavy modules are imported here, where a
    stage starts."""
    from stages.teaching.worker import TeacherWorker

    return TeacherWorker(job, worker).write
