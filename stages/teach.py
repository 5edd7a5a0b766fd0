"""The stage ``teach``: a model over a corpus -> the teacher-output store.

The teacher runs in eval mode under inference mode, on batches sorted by length up to a token budget.
Each distinct row is computed once. A shard is written whole or not at all; a run that was cut keeps its
finished shards.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.resources import On, Worker
from stages.batches import parts
from stages.corpus_reader import read_meta, read_split
from stages.cost import chosen_layers
from stages.outputs import Layout, shard_name, write_layout
from stages.shape import config_of, shape_of
from stages.specs import TeachSpec

Facts = dict[str, object]

SHARD_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Dump:
    """What a worker needs to know to write shards."""

    spec: TeachSpec
    model: Path
    corpus: Path
    out: Path
    layout: Layout


@dataclass(frozen=True, slots=True)
class Shard:
    """Distinct rows ``start`` to ``end``, counted through the splits in the spec's order."""

    number: int
    start: int
    end: int


def teach(spec: TeachSpec, inputs: Mapping[str, Path], out: Path, on: On) -> Facts:
    """Inputs: ``corpus``, ``model``. Leaves ``shard-*.parquet`` and ``store.json``."""
    corpus = inputs["corpus"]
    rows = len({key for split in spec.splits for key in read_split(corpus, split).keys})
    shape = shape_of(config_of(inputs["model"]), str(inputs["model"]))
    layers = chosen_layers(spec.layers, shape.layers)
    shards = [Shard(i, *part) for i, part in enumerate(parts(rows, SHARD_ROWS))]
    outputs = read_meta(corpus).task.outputs
    layout = Layout(layers, shape.width, outputs, spec.pooling, spec.precision, rows, len(shards))
    todo = [shard for shard in shards if not (out / shard_name(shard.number)).exists()]
    on.expect(sum(shard.end - shard.start for shard in todo), "rows")
    dump = Dump(spec, inputs["model"], corpus, out, layout)
    halvings = sum(result for _, result in on.map(open_teacher, dump, todo))
    write_layout(out, layout)
    return {"rows": rows, "layers": len(layers), "width": shape.width, "shards": len(shards), "oom_halvings": halvings}


def open_teacher(dump: Dump, worker: Worker) -> Callable[[Shard], int]:
    """Load the teacher once a worker. Heavy modules are imported here, where a stage starts."""
    from stages.teacher import Teacher

    return Teacher(dump, worker).write
