"""The sentence embeddings of the rows of a file, as a Parquet file."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.deployment.description import ModelDescription
from stages.deployment.rows import read_texts

EMBEDDING = "embedding"
"""The column of a table of embeddings: a list of as many float32 numbers as an embedding has dimensions."""


def check_embeddings_file(out: Path | None) -> Path:
    """``out``. Raises ValueError for none, for a file that exists, and for one that is no Parquet file by its name."""
    if out is None:
        raise ValueError("missing, and needed: embeddings are written as Parquet; give --out FILE.parquet")
    if out.suffix.lower() != ".parquet":
        raise ValueError(f"{out}, but embeddings are written as Parquet; give a name that ends in .parquet")
    if out.exists():
        raise ValueError(f"{out} exists, and is not overwritten; give another path, or remove it")
    return out


def embed_file(
    directory: Path, path: Path, description: ModelDescription, out: Path, advance: Callable[[int], None]
) -> int:
    """Write the embeddings of the rows of ``path``, in their order, by the sentence encoder in ``directory``: to
    ``out``, a row group for some thousand rows. Returns the dimensions of an embedding. ``advance`` is called with the
    number of rows whenever some are done. The file must be one that ``count_rows`` found good. Raises ValueError for a
    model that does not load."""
    from stages.deployment.classifier import best_device
    from stages.models.sentences.encoder import open_sentence_encoder

    encoder = open_sentence_encoder(directory, "mean", description.max_length, best_device(), os.cpu_count() or 1)
    schema = pa.schema([(EMBEDDING, pa.list_(pa.float32(), encoder.width))])
    file: Any
    with pq.ParquetWriter(out, schema) as file:
        for texts in read_texts(path, description):
            vectors = pa.array(encoder.encode(texts).reshape(-1), pa.float32())
            file.write_table(pa.table([pa.FixedSizeListArray.from_arrays(vectors, encoder.width)], schema=schema))
            advance(len(texts))
    return encoder.width
