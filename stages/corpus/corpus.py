"""The stage ``corpus``: the rows of a task -> tokenised shards for each split, each row with the key of its texts.
Images are written by ``stages/corpus/pixels/write.py``.

    <split>/part-00000.parquet   index, row_key, label, the text columns, input_ids, and token_type_ids of pairs
    tokenizer/                   the tokenizer that made the tokens
    evaluated.parquet            hashes of all texts that the task is evaluated on (``stages/corpus/leakage.py``)
    corpus.json                  the task, the splits, a hash of the tokenizer; written last

Splits are ``train``, ``holdout`` (cut from train, to select the best epoch), and the task's dev and test splits.
``index`` is the number of a row in the split that it was read from. ``stages/corpus/reader.py`` reads the files.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from cluster.resources import On
from stages.corpus.leakage import write_guard
from stages.corpus.pixels.write import image_table, write_image_corpus
from stages.corpus.reader import as_text
from stages.corpus.sources import read_rows, split_role, split_sources
from stages.corpus.splits import SampleSplit, cut, dev_rows, duplicates, holdout_rows, sample
from stages.corpus.token_shards import Facts, SplitRows, write_splits
from stages.specs.corpus import CorpusSpec
from stages.specs.tasks import CUT_DEV, HOLDOUT, TRAIN

DATA = "data/"
"""Prefix of the names of those inputs that are data files."""


def corpus(spec: CorpusSpec, inputs: Mapping[str, Path], out: Path, on: On) -> Facts:
    """Read, check, sample, split and tokenise the rows of a task. Inputs: ``tokenizer``; for files also
    ``data/<split>``.

    Goes on from the parts that ``out`` holds. Returns for each split: rows, duplicates (rows with the texts of an
    earlier row), truncated rows, tokens. ValueError for rows, splits or a tokenizer that cannot be used.
    """
    tables = _tables(spec, inputs)
    splits = choose(spec, tables)
    out.mkdir(parents=True, exist_ok=True)
    if spec.task.image is not None:
        facts = write_image_corpus(spec, splits, inputs.get("tokenizer"), out, on)
        return {**facts, "duplicates": {name: duplicates(split.rows) for name, split in splits.items()}}
    write_guard(out, _evaluated(spec, tables, splits))
    _, facts = write_splits(spec.task, spec.max_length, inputs["tokenizer"], splits, out, on)
    return {**facts, "duplicates": {name: duplicates(split.rows) for name, split in splits.items()}}


# --- read and choose ------------------------------------------------------------------------------


def _tables(spec: CorpusSpec, inputs: Mapping[str, Path]) -> dict[str, pa.Table]:
    """Split -> its rows, read and checked, for the task's splits that the source has."""
    files = {name.removeprefix(DATA): path for name, path in inputs.items() if name.startswith(DATA)}
    if spec.task.image is not None:
        return {split: image_table(spec.task, split, path) for split, path in files.items()}
    found = split_sources(spec.source, spec.task, files)
    return {split: read_rows(source, spec.task, split_role(spec.task, split)) for split, source in found.items()}


def choose(spec: CorpusSpec, tables: Mapping[str, pa.Table]) -> dict[str, SplitRows]:
    """The splits of the corpus. If the task has no dev split, one is first cut from all of train, so that it does not
    depend on ``train_rows``; then train is sampled; then the holdout is cut from the sample."""
    task, seed = spec.task, spec.sample_seed
    train, dev = tables[task.train], {split: tables[split] for split in task.dev}
    if not task.dev:
        divided = _without_dev(spec, train)
        train, dev = divided.kept, {CUT_DEV: divided.cut_off}
    chosen = _with_holdout(sample(train, spec.train_rows, seed), spec)
    for split, rows in dev.items():
        chosen[split] = SplitRows("dev", sample(rows, spec.eval_rows, seed))
    for split in task.test:
        if split in tables:
            chosen[split] = SplitRows("test", sample(tables[split], spec.eval_rows, seed))
    return chosen


def _without_dev(spec: CorpusSpec, train: pa.Table) -> SampleSplit:
    """Train divided into the new train and dev splits, for a task without a dev split."""
    return cut(train, dev_rows(train.num_rows), spec.sample_seed, CUT_DEV.encode())


def _with_holdout(train: pa.Table, spec: CorpusSpec) -> dict[str, SplitRows]:
    if not spec.holdout:
        return {TRAIN: SplitRows("train", train)}
    held_out = holdout_rows(train.num_rows, spec.holdout, spec.holdout_min_rows)
    divided = cut(train, held_out, spec.sample_seed, HOLDOUT.encode())
    return {TRAIN: SplitRows("train", divided.kept), HOLDOUT: SplitRows("holdout", divided.cut_off)}


def _evaluated(spec: CorpusSpec, tables: Mapping[str, pa.Table], splits: Mapping[str, SplitRows]) -> Iterator[str]:
    """All texts of dev and test, including rows that were not sampled, and of the holdout."""
    task = spec.task
    given = [table for split, table in tables.items() if split != task.train]
    held_out = [split.rows for split in splits.values() if split.role == "holdout"]
    dev = [] if task.dev else [_without_dev(spec, tables[task.train]).cut_off]
    for rows in (*given, *held_out, *dev):
        for name in task.text:
            yield from map(as_text, rows[name].to_pylist())
