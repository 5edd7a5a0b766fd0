"""Writes embeddings, a shard whole or not at all: what a model's vectors and TF-IDF's counts have in common."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.bank.reader import read_bank_rows
from stages.corpus.reader import SCRATCH
from stages.corpus.row_key import KEY_BYTES, row_key
from stages.retrieval.embeddings import META, SHARD_ROWS
from stages.retrieval.reuse import Prior
from stages.specs.retrieval import ModelEncoder, TfIdf

Texts = list[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class EmbedJob:
    """What a worker needs to open."""

    encoder: ModelEncoder | TfIdf
    model: Path | None
    bank: Path
    out: Path
    rows: int
    width: int
    priors: tuple[Prior, ...] = ()


def shard_rows(rows: int, number: int) -> int:
    return min(SHARD_ROWS, rows - number * SHARD_ROWS)


def shard_texts(bank: Path, number: int, rows: int) -> Texts:
    """The texts of a shard, of a bank of so many rows."""
    start = number * SHARD_ROWS
    return read_bank_rows(bank, np.arange(start, start + shard_rows(rows, number)))


def shard_keys(texts: Texts) -> npt.NDArray[np.uint8]:
    """[len(texts), 16]: their row keys."""
    return np.frombuffer(b"".join(map(row_key, texts)), np.uint8).reshape(-1, KEY_BYTES)


def write_meta(out: Path, stated: Mapping[str, object]) -> None:
    draft = out / SCRATCH / META
    draft.write_text(json.dumps(stated, indent=1) + "\n", "utf-8")
    os.replace(draft, out / META)


def save_array(out: Path, path: Path, values: npt.NDArray[np.generic]) -> None:
    """Under another name first: a file that bears its name is whole."""
    draft = out / SCRATCH / f"{path.name}.tmp"
    with draft.open("wb") as file:
        np.save(file, values)
    os.replace(draft, path)
