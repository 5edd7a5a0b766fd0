"""Columns of a store in memory, for reading a few rows. Training maps files instead (``node_cache``)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.outputs.layout import Store, read_store, shard_name
from stages.outputs.node_cache import check_columns, locate
from stages.outputs.parquet import Array, check_footer, float_batches, read_keys, read_logits


def read_columns(directory: Path, columns: Sequence[str], row_keys: Sequence[bytes]) -> dict[str, Array]:
    """These columns for the rows with these keys, in their order: each [rows, width]. Codes come as float32.

    Raises ValueError, naming the row, when the store lacks one of the keys or one of the columns.
    """
    store = read_store(directory)
    check_columns(directory, store.layout, columns)
    for shard in store.shards:
        check_footer(directory, shard)
    stored = np.concatenate([read_keys(directory / shard_name(shard.number)) for shard in store.shards])
    places = locate(stored, row_keys, directory)
    return {name: read_whole(directory, store, name)[places] for name in columns}


def read_whole(directory: Path, store: Store, name: str) -> Array:
    """One column of all rows, [rows, width], in the store's own order. Raises ValueError for logits of entries, which
    have no one width."""
    if name == "logits" and store.layout.entries:
        raise ValueError(f"{directory}: the store has logits for each entry of a row; a vector for each row is needed")
    if name == "logits":
        return np.concatenate([read_logits(directory / shard.name, store.layout) for shard in store.shards])
    return np.concatenate(
        [batch for shard in store.shards for batch in float_batches(directory, shard.number, store.layout, name)]
    )
