"""The stage ``teach``: a model over a corpus -> the teacher-output store.

The teacher runs in eval mode under inference mode, on batches sorted by length up to a token budget. Each distinct
row is computed once, and only where nobody has said it before: rows are carried over, bit by bit, from finished
shards of an attempt that was cut and from stores that are given as ``prior``. A shard is written whole or not at all.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster.resources import On, Worker
from stages.batches import Rows, parts
from stages.corpus_reader import Meta, read_meta, read_split
from stages.cost import Extent, chosen_layers, rows_a_shard
from stages.shape import Shape, config_of, shape_of
from stages.specs import TeachSpec
from stages.store.layout import Layout, ShardFile, read_store, scales_name, shard_name, shard_numbers, write_store
from stages.store.shards import Damaged, file_sha256, read_keys

Facts = dict[str, object]

PRIOR = "prior/"
"""Inputs of this name are earlier stores of the same teacher, from which rows may be taken."""


@dataclass(frozen=True, slots=True)
class Dump:
    """What a worker needs to know to write shards."""

    spec: TeachSpec
    model: Path
    corpus: Path
    out: Path
    layout: Layout


@dataclass(frozen=True, slots=True)
class Source:
    """A shard of an earlier store."""

    directory: Path
    number: int
    layout: Layout


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard to be written: these of the distinct rows, counted through the splits in the spec's order. They are
    computed, or carried over from a ``source`` that holds them all."""

    number: int
    rows: Rows
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """A shard that was written, and how often the token budget was halved for lack of memory meanwhile."""

    file: ShardFile
    halvings: int = 0
    carried: int = 0


def teach(spec: TeachSpec, inputs: Mapping[str, Path], out: Path, on: On) -> Facts:
    """Inputs: ``corpus``, ``model``, and any number of ``prior/...``. Leaves ``shard-*.parquet`` and ``store.json``."""
    corpus = inputs["corpus"]
    meta = read_meta(corpus)
    shape = shape_of(config_of(inputs["model"]), str(inputs["model"]))
    layout, rule = layout_of(spec, shape, meta), tokenisation(meta)
    keys = distinct_keys(corpus, spec.splits)
    there = finished(out, layout)
    held = {key for _, shard_keys in there for key in shard_keys}
    left = {key: row for row, key in enumerate(keys) if key not in held}
    priors = [path for name, path in inputs.items() if name.startswith(PRIOR)]
    size = rows_a_shard(bytes_of_a_row(layout, meta))
    shards = list(planned(left, priors, layout, rule, size, {file.number for file, _ in there}))
    _check_space(out, len(left) * bytes_of_a_row(layout, meta))
    on.expect(len(left), "rows")
    written = [result for _, result in on.map(open_teacher, Dump(spec, inputs["model"], corpus, out, layout), shards)]
    files = [file for file, _ in there] + [result.file for result in written]
    store = write_store(out, layout, rule, files)
    return {
        "rows": store.rows,
        "computed": len(left) - sum(result.carried for result in written),
        "carried": sum(result.carried for result in written),
        "layers": len(layout.layers),
        "width": layout.width,
        "shards": len(store.shards),
        "oom_halvings": sum(result.halvings for result in written),
    }


def layout_of(spec: TeachSpec, shape: Shape, meta: Meta) -> Layout:
    """What the store will hold. ValueError for a layer that the teacher lacks."""
    layers = chosen_layers(spec.layers, shape.layers, spec.part)
    pooling = spec.pooling if spec.part == "pooled" else ""
    return Layout(spec.part, layers, shape.width, shape.heads, meta.task.outputs, pooling, spec.precision)


def tokenisation(meta: Meta) -> str:
    """By what rule texts became tokens: rows of equal key and rule have equal tokens."""
    return f"{meta.tokenizer_sha256[:16]}-{meta.max_length}-{len(meta.task.text)}"


def bytes_of_a_row(layout: Layout, meta: Meta) -> int:
    """Before compression. Where positions are kept, of a row of mean length."""
    splits = meta.splits.values()
    length = -(-sum(split.tokens for split in splits) // sum(split.rows for split in splits))
    extent = Extent(len(layout.layers), layout.width, layout.outputs, layout.heads, length)
    return extent.row_bytes(layout.part, layout.precision, layout.pooling)


def distinct_keys(corpus: Path, splits: Sequence[str]) -> list[bytes]:
    """The keys of all rows, each once, in the order in which they first come."""
    return list(dict.fromkeys(key for split in splits for key in read_split(corpus, split).keys))


def finished(out: Path, layout: Layout) -> list[tuple[ShardFile, list[bytes]]]:
    """The shards of an earlier attempt, with their keys. One that cannot be read is removed and made anew."""
    found = []
    for number in shard_numbers(out):
        path, scales = out / shard_name(number), out / scales_name(number)
        try:
            keys = _keys(path)
        except Damaged:
            path.unlink()
            continue
        checksum = file_sha256(scales) if layout.precision == "int8" else ""
        found.append((ShardFile(number, len(keys), path.stat().st_size, file_sha256(path), checksum), keys))
    return found


def _keys(path: Path) -> list[bytes]:
    whole = read_keys(path).tobytes()
    return [whole[start : start + 16] for start in range(0, len(whole), 16)]


def planned(
    left: Mapping[bytes, int], priors: Sequence[Path], layout: Layout, rule: str, size: int, taken: set[int]
) -> Iterator[Shard]:
    """The shards to write for the rows that are ``left``, under numbers that are not ``taken``."""
    left = dict(left)
    free = (number for number in range(len(taken) + len(left) + 1) if number not in taken)
    for source in sources(priors, layout, rule):
        try:
            keys = _keys(source.directory / shard_name(source.number))
        except (Damaged, FileNotFoundError):
            continue  # its rows are computed instead
        rows = [left.pop(key) for key in keys if key in left]
        if rows:
            yield Shard(next(free), np.array(rows, np.int64), source)
    rest = np.array(list(left.values()), np.int64)
    for start, end in parts(len(rest), size):
        yield Shard(next(free), rest[start:end])


def sources(priors: Sequence[Path], layout: Layout, rule: str) -> Iterator[Source]:
    """The shards of those earlier stores that were made by the same rule and hold all that is wanted."""
    for directory in priors:
        store = read_store(directory)
        if store.tokenisation == rule and store.layout.serves(layout):
            for shard in store.shards:
                yield Source(directory, shard.number, store.layout)


def _check_space(out: Path, needed: int) -> None:
    """Refuse to start what cannot end. ``needed`` is before compression, which saves 8 % of float16."""
    free = shutil.disk_usage(out).free
    if free < 0.9 * needed:
        raise ValueError(
            f"{out}: {free:,} bytes are free, the rest of the store takes about {needed:,}; free some and run again, "
            "or choose store.precision: int8 or fewer store.layers"
        )


def open_teacher(dump: Dump, worker: Worker) -> Callable[[Shard], Written]:
    """Load the teacher once a worker. Heavy modules are imported here, where a stage starts."""
    from stages.teacher import Teacher

    return Teacher(dump, worker).write
