"""What writing a model's vectors and writing TF-IDF's counts have in common. Each file is whole or not there."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.atomic import replacing
from stages.bank.reader import read_bank_rows
from stages.corpus.row_key import KEY_BYTES, row_key
from stages.retrieval.embeddings import META, SHARD_ROWS
from stages.retrieval.reuse import Prior
from stages.specs.retrieval import ModelEncoder, TfIdf

Texts = list[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class EmbedJob:
    """What a worker needs to embed shards of a bank of ``rows`` rows. ``model`` is None for TF-IDF. Vectors may be
    copied from ``priors``, which are earlier embeddings."""

    encoder: ModelEncoder | TfIdf
    model: Path | None
    bank: Path
    out: Path
    rows: int
    width: int
    priors: tuple[Prior, ...] = ()


def shard_rows(rows: int, number: int) -> int:
    """The rows of a shard of a bank of ``rows`` rows."""
    return min(SHARD_ROWS, rows - number * SHARD_ROWS)


def shard_texts(bank: Path, number: int, rows: int) -> Texts:
    """The texts of a shard of a bank of ``rows`` rows."""
    start = number * SHARD_ROWS
    return read_bank_rows(bank, np.arange(start, start + shard_rows(rows, number)))


def shard_keys(texts: Texts) -> npt.NDArray[np.uint8]:
    """The row keys of the texts, [len(texts), 16]."""
    return np.frombuffer(b"".join(map(row_key, texts)), np.uint8).reshape(-1, KEY_BYTES)


def write_meta(out: Path, content: Mapping[str, object]) -> None:
    """Write ``embeddings.json``: with it the embeddings are finished."""
    with replacing(out / META) as draft:
        draft.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def save_array(path: Path, values: npt.NDArray[np.generic]) -> None:
    """Write a .npy file, whole or not at all."""
    with replacing(path) as draft, draft.open("wb") as file:
        np.save(file, values)
