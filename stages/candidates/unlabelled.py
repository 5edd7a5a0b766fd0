"""The stage ``unlabelled``: the texts of a candidate table -> tokenised rows without labels, which a teacher can label.

    candidates/part-00000.parquet   index, row_key, label (null), the text columns, input_ids, token_type_ids of pairs
    tokenizer/, corpus.json         as in a corpus, with the single split ``candidates``

Distinct texts occur once, in the order of their first occurrence in the table. They are tokenised as in the task's own
corpus, so a teacher's outputs for a text are the same for both.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from cluster.resources import On
from stages.candidates.table import read_candidates, read_table_meta
from stages.corpus.labels import label_type
from stages.corpus.reader import CANDIDATES, TOKENIZER, Meta, read_meta
from stages.corpus.token_shards import Facts, SplitRows, write_splits
from stages.specs.candidates import UnlabelledSpec
from stages.specs.tasks import Task


def unlabelled(_: UnlabelledSpec, inputs: Mapping[str, Path], out: Path, on: On) -> Facts:
    """Write the tokenised rows to ``out``, going on from the parts that it holds. Inputs: ``candidates``, ``corpus``.
    Returns, for the split ``candidates``: rows, truncated rows, tokens. ValueError for inputs that do not belong
    together."""
    meta, table = read_meta(inputs["corpus"]), inputs["candidates"]
    _check(table, meta)
    rows = distinct_rows(table, meta.task)
    splits = {CANDIDATES: SplitRows("candidates", rows)}
    saved, facts = write_splits(meta.task, meta.max_length, inputs["corpus"] / TOKENIZER, splits, out, on)
    if saved.sha256 != meta.tokenizer_sha256:
        raise ValueError(
            f"{inputs['corpus'] / TOKENIZER}: not the tokenizer recorded in corpus.json; build the corpus again"
        )
    return facts


def distinct_rows(table: Path, task: Task) -> pa.Table:
    """The distinct texts of a candidate table as rows of the task: index, row_key, label, the text columns."""
    read = read_candidates(table, ("candidate_key", *task.text))
    codes = read["candidate_key"].combine_chunks().dictionary_encode().indices.to_numpy()
    first = np.sort(np.unique(codes, return_index=True)[1])
    kept = read.take(pa.array(first))
    label = pa.nulls(len(first), label_type(task))
    columns = [
        pa.array(range(len(first)), pa.int64()),
        kept["candidate_key"],
        label,
        *(kept[name] for name in task.text),
    ]
    return pa.table(columns, names=["index", "row_key", "label", *task.text])


def _check(table: Path, meta: Meta) -> None:
    stated = read_table_meta(table)
    if stated.text != meta.task.text:
        raise ValueError(
            f"candidates: {table} has the text columns {', '.join(stated.text)}, but the task {meta.task.name} has "
            f"{', '.join(meta.task.text)}; make the candidates from this corpus"
        )
    if not stated.candidates:
        raise ValueError(
            f"candidates: {table} holds none for any of {stated.rows} rows; give a larger bank, widen min_distance and "
            "max_distance, or let more words be replaced"
        )
