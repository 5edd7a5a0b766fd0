"""The stage ``probe``: fit linear classifiers on each of a teacher's stored layers -> a store of their outputs.

Universal-KD (Wu et al. 2021, EMNLP) adds pseudo classifiers on intermediate layers, so that layers are compared by the
predictions that they allow. Only its abstract was read; what is fitted, and how, is ours. No model runs: the
classifiers are fitted on the pooled states that the store holds. A student learns from the outputs for train, and a
classifier of many dimensions overfits the rows that it was fitted on; so the outputs for each row of train come from a
classifier that was fitted on other rows (``folds``). They are kept as that layer's column, so whatever reads a
teacher's store reads this one.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster.resources import On, Worker
from stages.corpus.reader import read_meta, read_row_table
from stages.outputs.layout import Layout, Store, read_store, write_store
from stages.outputs.parquet import Array, check_footer, read_row_keys, write_shard
from stages.outputs.quarantine import read_quarantined
from stages.outputs.reader import read_whole
from stages.outputs.sizes import row_bytes
from stages.specs.layers import state_name
from stages.specs.tasks import TRAIN
from stages.specs.teacher import QUARANTINED, ProbeSpec
from stages.teaching.teach import shard_parts

Facts = dict[str, object]


@dataclass(frozen=True, slots=True)
class ProbeJob:
    """Input of a worker that fits classifiers."""

    spec: ProbeSpec
    corpus: Path
    outputs: Path


@dataclass(frozen=True, slots=True)
class ProbeOutputs:
    """Logits of the classifiers of one layer for the rows of the store, [rows, outputs], and their scores, accuracy x
    100, or R2 x 100 of a regression: ``out_of_fold`` on rows of train that they were not fitted on (how well the task
    can be read from this layer), ``train`` on those that they were fitted on."""

    logits: Array
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
    by_column = {state_name(layer): found[place] for place, layer in enumerate(spec.layers)}
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
            {column: outputs.logits[start:end] for column, outputs in by_column.items()},
        )
        for number, (start, end) in enumerate(shard_parts(sizes))
    ]
    written = write_store(out, layout, store.tokenisation, files)
    if (inputs["outputs"] / QUARANTINED).exists():  # what the teacher's store lacks, this one lacks as well
        shutil.copyfile(inputs["outputs"] / QUARANTINED, out / QUARANTINED)
    return {
        "rows": written.rows,
        "layers": len(spec.layers),
        "shards": len(files),
        "measure": "r2" if task.regression else "accuracy",
        "folds": spec.folds,
        "out_of_fold": {column: round(outputs.out_of_fold, 3) for column, outputs in by_column.items()},
        "train": {column: round(outputs.train, 3) for column, outputs in by_column.items()},
    }


def stored_keys(directory: Path, store: Store) -> list[bytes]:
    """The keys of all rows, in the store's order."""
    found: list[bytes] = []
    for shard in store.shards:
        check_footer(directory, shard)
        found += read_row_keys(directory / shard.name)
    return found


def open_probe(job: ProbeJob, worker: Worker) -> Callable[[int], ProbeOutputs]:
    """Read the labels of train once a worker; return what fits the classifiers of a layer. Heavy modules are imported
    here, where a stage starts. Raises ValueError, naming the row, where the store lacks a row of train."""
    from stages.teaching.folds import out_of_fold
    from stages.teaching.linear_probe import LabelledStates

    spec, task, store = job.spec, read_meta(job.corpus).task, read_store(job.outputs)
    keys, rows = stored_keys(job.outputs, store), read_row_table(job.corpus, TRAIN)
    places = {key: place for place, key in enumerate(keys)}
    # A text that train holds twice, with two labels, makes two examples at one place of the store.
    bad = read_quarantined(job.outputs)
    labelled = [(row, key) for row, key in enumerate(rows.keys) if rows.labelled[row] and key not in bad]
    missing = [key for _, key in labelled if key not in places]
    if missing or not labelled:
        reason = f"lacks {len(missing)} rows, the first is {missing[0].hex()}" if missing else "no row is labelled"
        raise ValueError(f"{job.outputs}: split {TRAIN}: {reason}; run the teach stage over this corpus")
    train = LabelledStates(np.array([places[key] for _, key in labelled]), rows.labels[[row for row, _ in labelled]])

    def outputs(layer: int) -> ProbeOutputs:
        states = read_whole(job.outputs, store, store.layout.column_of(layer, spec.pooling))
        logits, fitted = out_of_fold(states, keys, train, task, spec.penalty, spec.folds)
        worker.advance(1)
        return ProbeOutputs(logits, train.score(logits, task), fitted)

    return outputs
