"""The texts that a model is pretrained on, and those that are held out. numpy and pyarrow only.

They are texts of a bank, or the rows of a task's train split, which contains neither held-out rows nor rows of dev and
test. Equal texts are taken once. Which of them are used, and which held out, depends on hashes of the texts alone: not
on their order, and not on a seed. So losses on the held-out texts of trainings with several seeds can be compared, and
a sample of more texts contains one of fewer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.bank.reader import COLUMNS, read_bank_meta, read_bank_part, read_bank_rows
from stages.corpus.reader import read_split
from stages.corpus.row_key import KEY_BYTES, split_keys
from stages.corpus.token_shards import SplitRows
from stages.specs.pretraining import TextsSpec
from stages.specs.tasks import HOLDOUT, TRAIN, Task

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ChosenTexts:
    """The texts to train on and those to measure on, as the splits ``train`` and ``holdout`` of a task without
    labels."""

    task: Task
    splits: Mapping[str, SplitRows]


def chosen_texts(spec: TextsSpec, inputs: Mapping[str, Path]) -> ChosenTexts:
    """The texts that a training uses, from the input ``bank`` or ``corpus``. Raises ValueError if there are fewer than
    two different ones."""
    return _of_bank(spec, inputs["bank"]) if "bank" in inputs else _of_train(spec, inputs["corpus"])


def _of_bank(spec: TextsSpec, bank: Path) -> ChosenTexts:
    meta = read_bank_meta(bank)
    parts = [read_bank_part(bank, number, ["row_key"])["row_key"] for number in range(len(meta.parts))]
    keys = np.concatenate([np.empty((0, KEY_BYTES), np.uint8), *map(_key_bytes, parts)])
    divided = _divided(spec, keys, f"bank: {bank}")
    texts = {name: read_bank_rows(bank, rows) for name, rows in divided.items()}
    return _chosen(meta.columns, divided, keys, texts)


def _of_train(spec: TextsSpec, corpus: Path) -> ChosenTexts:
    split = read_split(corpus, TRAIN)
    divided, texts = _divided(spec, split.row_keys, f"corpus: {corpus}"), split.texts()
    of_splits = {name: [texts[row] for row in rows] for name, rows in divided.items()}
    return _chosen(COLUMNS[: len(split.columns)], divided, split.row_keys, of_splits)


def _key_bytes(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """[N, 16]: the bytes of a column of row keys."""
    chunks = [
        np.frombuffer(chunk.buffers()[1], np.uint8).reshape(-1, KEY_BYTES)[chunk.offset : chunk.offset + len(chunk)]
        for chunk in column.chunks
        if len(chunk)
    ]
    return np.concatenate([np.empty((0, KEY_BYTES), np.uint8), *chunks])


def _divided(spec: TextsSpec, keys: npt.NDArray[np.uint8], where: str) -> dict[str, Numbers]:
    """Split -> the numbers of its rows, rising. ``keys`` [N, 16] are the row keys of all."""
    words = keys.copy().view(">u8").reshape(-1, KEY_BYTES // 8)
    order = np.lexsort((words[:, 1], words[:, 0]))  # stable: of equal texts the first comes first
    differs = np.ones(len(order), np.bool_)
    differs[1:] = (words[order[1:]] != words[order[:-1]]).any(1)
    distinct = order[differs]
    trained, held_out = spec.texts_of(len(distinct))
    if not held_out:
        raise ValueError(f"{where} has {len(distinct)} different texts, and pretraining needs 2 or more; give more")
    return {TRAIN: np.sort(distinct[held_out : held_out + trained]), HOLDOUT: np.sort(distinct[:held_out])}


def _chosen(
    columns: Sequence[str],
    divided: Mapping[str, Numbers],
    keys: npt.NDArray[np.uint8],
    texts: Mapping[str, Sequence[Sequence[str]]],
) -> ChosenTexts:
    task = Task(name="texts", text=tuple(columns), metrics=("pearson",))
    tables = {name: _table(columns, rows, keys[rows], texts[name]) for name, rows in divided.items()}
    return ChosenTexts(task, {TRAIN: SplitRows("train", tables[TRAIN]), HOLDOUT: SplitRows("holdout", tables[HOLDOUT])})


def _table(
    columns: Sequence[str], rows: Numbers, keys: npt.NDArray[np.uint8], texts: Sequence[Sequence[str]]
) -> pa.Table:
    """Rows as ``write_splits`` takes them: index, row_key, label (null), the text columns. ``keys`` [N, 16] are those
    of the ``rows``."""
    values = zip(*texts, strict=True)
    return pa.table(
        {
            "index": pa.array(rows, pa.int64()),
            "row_key": pa.array(split_keys(keys.tobytes()), pa.binary(KEY_BYTES)),
            "label": pa.nulls(len(rows), pa.float32()),
            **{name: pa.array(column, pa.string()) for name, column in zip(columns, values, strict=True)},
        }
    )
