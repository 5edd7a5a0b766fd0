"""Small banks and embeddings in the form that the stages leave, and a brute-force search of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.bank import reader as bank_reader
from stages.corpus.row_key import row_key
from stages.retrieval import embeddings
from stages.retrieval.embeddings import keys_path, vectors_path


def mixture(rows: int, width: int, seed: int = 0, groups: int = 40) -> np.ndarray:
    """Vectors of length 1 around some centres, in float32."""
    generator = np.random.Generator(np.random.PCG64(seed))
    centres = generator.normal(size=(groups, width))
    vectors = centres[generator.integers(0, groups, rows)] + 0.6 * generator.normal(size=(rows, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def write_embeddings(
    directory: Path, vectors: np.ndarray, shard: int = 700, encoder: Mapping[str, object] | None = None
) -> Path:
    directory.mkdir(parents=True)
    shards = []
    for number, start in enumerate(range(0, len(vectors), shard)):
        own = vectors[start : start + shard].astype(np.float16)
        np.save(vectors_path(directory, number), own)
        np.save(keys_path(directory, number), np.zeros((len(own), 16), np.uint8))
        shards.append(len(own))
    stated = {"kind": "model", "width": vectors.shape[1], "shards": shards, "encoder": encoder or {"kind": "model"}}
    (directory / embeddings.META).write_text(json.dumps(stated))
    return directory


def write_bank(directory: Path, rows: Sequence[tuple[str, ...]], part: int = 50) -> Path:
    directory.mkdir(parents=True)
    names = bank_reader.COLUMNS[: len(rows[0])]
    parts = []
    for number, start in enumerate(range(0, len(rows), part)):
        own = rows[start : start + part]
        columns = {"row_key": pa.array([row_key(row) for row in own], pa.binary(16))}
        columns |= {name: pa.array([row[place] for row in own]) for place, name in enumerate(names)}
        pq.write_table(pa.table(columns), bank_reader.bank_part(directory, number))
        parts.append(len(own))
    stated = {"columns": names, "parts": parts, "filters": {"read": len(rows)}}
    (directory / bank_reader.META).write_text(json.dumps(stated))
    return directory


def brute(vectors: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(cosines, rows) of the nearest, the lower row first where they are equal; in float64."""
    cosines = queries.astype(np.float64) @ vectors.astype(np.float16).astype(np.float64).T
    rows = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(cosines, rows, 1), rows
