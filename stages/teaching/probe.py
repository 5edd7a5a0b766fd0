"""The stage ``probe``: linear classifiers on each of a teacher's stored layers -> a store of what they say.

Universal-KD (Wu et al. 2021, EMNLP) adds pseudo classifiers on intermediate layers, so that layers are compared by what
they say about the task. Only its abstract was read; what is fitted, and how, is ours. No model runs: the classifiers
are fitted on the pooled states that the store holds. A student learns from what is said of train, and a classifier of
many dimensions knows the labels of the rows that it was fitted on by heart; so of each row of train speaks one that was
fitted on other rows (``folds``). What is said about a row is kept as that layer's column, so whatever reads a teacher's
store reads this one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster.resources import On, Worker
from stages.corpus.reader import read_meta, read_split
from stages.outputs.layout import Layout, Store, read_store, write_store
from stages.outputs.parquet import Array, check_footer, read_row_keys, write_shard
from stages.outputs.reader import read_whole
from stages.outputs.sizes import row_bytes
from stages.specs.layers import state_name
from stages.specs.tasks import TRAIN
from stages.specs.teacher import ProbeSpec
from stages.teaching.teach import shard_parts

Facts = dict[str, object]


@dataclass(frozen=True, slots=True)
class ProbeJob:
    """What a worker needs to know to fit classifiers."""

    spec: ProbeSpec
    corpus: Path
    outputs: Path


@dataclass(frozen=True, slots=True)
class ProbeOutputs:
    """What the classifiers of one layer say about the rows of the store, [rows, outputs], and how often they are right,
    accuracy x 100, or R2 x 100 of a regression: about rows of train that they were not fitted on (how far the task can
    be read from this layer), and about those that they were (``train``)."""

    said: Array
    out_of_fold: float
    train: float


def probe(spec: ProbeSpec, inputs: Mapping[str, Path], out: Path, on: On) -> Facts:
    """Inputs: ``corpus``, ``outputs`` (a store of pooled states). Leaves a store: ``shard-*.parquet``, ``store.json``.

    ValueError for a layer or a pooling that the store does not have, and where it lacks a row of train.
    """
    task, store = read_meta(inputs["corpus"]).task, read_store(inputs["outputs"])
    if store.layout.part != "pooled":
        raise ValueError(f"{inputs['outputs']}: holds {store.layout.part}; classifiers are fitted on pooled states")
    for layer in spec.layers:
        store.layout.column_of(layer, spec.pooling)
    layout = Layout("pooled", spec.layers, task.outputs, 0, task.outputs, spec.pooling, "float32")
    on.expect(len(spec.layers), "layers")
    found = dict(on.map(open_probe, ProbeJob(spec, inputs["corpus"], inputs["outputs"]), spec.layers))
    answers = {state_name(layer): found[place] for place, layer in enumerate(spec.layers)}
    keys = stored_keys(inputs["outputs"], store)
    logits = read_whole(inputs["outputs"], store, "logits")
    sizes = np.full(len(keys), row_bytes(len(spec.layers), task.outputs, task.outputs, "float32"), np.int64)
    files = [
        write_shard(
            out,
            number,
            layout,
            keys[start:end],
            logits[start:end],
            {column: outputs.said[start:end] for column, outputs in answers.items()},
        )
        for number, (start, end) in enumerate(shard_parts(sizes))
    ]
    written = write_store(out, layout, store.tokenisation, files)
    return {
        "rows": written.rows,
        "layers": len(spec.layers),
        "shards": len(files),
        "measure": "r2" if task.regression else "accuracy",
        "folds": spec.folds,
        "out_of_fold": {column: round(outputs.out_of_fold, 3) for column, outputs in answers.items()},
        "train": {column: round(outputs.train, 3) for column, outputs in answers.items()},
    }


def stored_keys(directory: Path, store: Store) -> list[bytes]:
    """The keys of all rows, in the store's order."""
    found: list[bytes] = []
    for shard in store.shards:
        check_footer(directory, shard)
        found += read_row_keys(directory / shard.name)
    return found


def open_probe(job: ProbeJob, worker: Worker) -> Callable[[int], ProbeOutputs]:
    """Read the rows' labels once a worker. Heavy modules are imported here, where a stage starts. ValueError, naming
    the row, where the store lacks one of train."""
    from stages.teaching.folds import out_of_fold
    from stages.teaching.linear_probe import Examples

    spec, task, store = job.spec, read_meta(job.corpus).task, read_store(job.outputs)
    keys, rows = stored_keys(job.outputs, store), read_split(job.corpus, TRAIN)
    places = {key: place for place, key in enumerate(keys)}
    # One text may stand in train twice, with two labels: two examples of one place in the store.
    known = [(row, key) for row, key in enumerate(rows.keys) if rows.labelled[row]]
    lacking = [key for _, key in known if key not in places]
    if lacking or not known:
        reason = f"lacks {len(lacking)} rows, the first is {lacking[0].hex()}" if lacking else "no row is labelled"
        raise ValueError(f"{job.outputs}: split {TRAIN}: {reason}; run the teach stage over this corpus")
    train = Examples(np.array([places[key] for _, key in known]), rows.labels[[row for row, _ in known]])

    def outputs(layer: int) -> ProbeOutputs:
        states = read_whole(job.outputs, store, store.layout.column_of(layer, spec.pooling))
        said, fitted = out_of_fold(states, keys, train, task, spec.penalty, spec.folds)
        worker.advance(1)
        return ProbeOutputs(said, train.score(said, task), fitted)

    return outputs
